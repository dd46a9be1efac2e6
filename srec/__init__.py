"""Prompt programs for multimodal sequential recommendation with multimodal LLMs."""
