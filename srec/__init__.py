"""Prompt programs for multimodal sequential recommendation with multimodal LLMs.

    import srec

    shop = srec.toyshop(items=60, users=20, seed=0)
    cases = srec.cases(shop.data, candidates="uniform:20", users=5, seed=0)
    program = srec.MLLMSRec(lm=srec.connect("local:"))
    print(program(cases[0]).ranking.top(3))

The public names are those of `__init__.pyi`. They are loaded when they are first used, so `import srec` costs less than
`import dspy`.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
