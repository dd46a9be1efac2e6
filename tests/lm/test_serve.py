"""How a server is started, joined and ended, with a program in the place of vLLM; vLLM itself is in test_server.py."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
import uuid

import pytest
import vllm_stub
from vllm_stub import gone, started_with

import srec
from srec.errors import InputError, ModelError
from srec.lm.checkpoint import obtain
from srec.lm.connect import served_models
from srec.lm.launch import find_python, free_port, lacks_bfloat16
from srec.lm.lora import obtain_lora
from srec.lm.server import StaysLoadedWarning, served_name


def lora(folder, *, numbers=b"numbers", **settings):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, **settings}))
    (folder / "adapter_model.safetensors").write_bytes(numbers)
    return folder


def name_of(folder, base):
    return served_name(folder.name, obtain_lora(folder, base=obtain(str(base))))


def option(log, name):
    arguments = started_with(log)["arguments"]
    return arguments[arguments.index(name) + 1]


# Names


def test_a_name_tells_of_the_numbers_and_the_base(tmp_path, base):
    (tmp_path / "elsewhere").mkdir()
    one, two = lora(tmp_path / "one"), lora(tmp_path / "two", numbers=b"others")
    copy = lora(tmp_path / "elsewhere" / "one", base_model_name_or_path="/another/place")
    assert name_of(one, base) == name_of(copy, base)
    digest = name_of(one, base).partition("@")[2]
    assert len(digest) == 12
    assert digest != name_of(two, base).partition("@")[2]
    (base / "config.json").write_text('{"another": "model"}')
    assert digest != name_of(one, base).partition("@")[2]


def test_signs_that_mean_something_elsewhere_do_not_stand_in_a_name(tmp_path, base):
    assert name_of(lora(tmp_path / "a #1 @ö"), base).startswith("a--1---@")


# A server of its own


def test_a_lora_is_served_as_an_lm_named_by_its_weights(tmp_path, base, stub):
    folder = lora(tmp_path / "mild")
    with srec.serve(folder, base=base, python=stub, max_tokens=7) as lm:
        assert lm.model == f"vllm/{name_of(folder, base)}"
        assert lm.kwargs["max_tokens"] == 7
        assert not lm.engine.sees_images


def test_without_a_lora_the_base_is_served(base, stub):
    with srec.serve(base=base, python=stub) as lm:
        assert lm.model == f"vllm/{obtain(str(base)).identity}"


def test_several_loras_are_reached_by_the_names_given_or_served(tmp_path, base, stub):
    folders = {"a": lora(tmp_path / "mild"), "b": lora(tmp_path / "bold", numbers=b"b", r=4, rank_pattern={"q": 40})}
    with srec.start_server(folders, base=base, python=stub) as server:
        assert len(set(server.names)) == 3
        assert server.names[0] == server.base
        assert served_models(server.url) == list(server.names)
        assert server.lm().model == server.lm("a").model == f"vllm/{server.loras['a']}"
        assert server.lm(server.loras["b"]).model == server.lm("b").model
        assert server.lm(server.base).model == f"vllm/{server.base}"
        with pytest.raises(InputError, match="no model 'c' is served here; name one of: a, b, base@"):
            server.lm("c")
    assert option(server.log, "--max-lora-rank") == "64"
    assert option(server.log, "--max-loras") == "3"  # the last place stays empty, see test_server.py
    assert option(server.log, "--max-num-seqs") == "16"
    assert option(server.log, "--host") == "127.0.0.1"
    assert gone(started_with(server.log)["pids"], within_s=0)


@pytest.mark.parametrize(("flags", "lacking"), [("fpu avx2", True), ("fpu avx512f avx512_bf16 amx_tile", False)])
def test_a_processor_tells_whether_it_has_bfloat16(flags, lacking, tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t: none\n")
    assert lacks_bfloat16(told) is lacking
    assert not lacks_bfloat16(tmp_path / "another system")


def test_a_processor_without_bfloat16_computes_in_float32(base, stub):
    with srec.start_server(base=base, python=stub) as server:
        arguments = " ".join(started_with(server.log)["arguments"])
    assert ("--dtype float32" in arguments) is lacks_bfloat16()


def test_the_folder_of_its_sockets_goes_with_a_server_unless_the_user_named_it(tmp_path, base, stub, monkeypatch):
    with srec.start_server(base=base, python=stub) as server:
        sockets = vllm_stub.Path(started_with(server.log)["environment"]["VLLM_RPC_BASE_PATH"])
        (sockets / "left-by-vllm").touch()
    assert not sockets.exists()
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path))
    with srec.start_server(base=base, python=stub) as server:
        assert started_with(server.log)["environment"]["VLLM_RPC_BASE_PATH"] == str(tmp_path)
    assert tmp_path.is_dir()


def test_a_deep_folder_for_temporary_files_does_not_make_sockets_names_too_long(tmp_path, base, stub, monkeypatch):
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    with srec.start_server(base=base, python=stub, log=tmp_path / "log") as server:
        sockets = started_with(server.log)["environment"]["VLLM_RPC_BASE_PATH"]
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"{sockets}/{uuid.uuid4()}")
    assert not vllm_stub.Path(sockets).exists()


def test_a_key_reaches_the_server_by_its_environment_only(base, stub, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "not-meant-for-this-server")
    with srec.start_server(base=base, python=stub, api_key="secret") as server:
        told = started_with(server.log)
    assert told["environment"]["VLLM_API_KEY"] == "secret"
    assert "secret" not in str(told["arguments"]) + str(server)
    with srec.start_server(base=base, python=stub) as server:
        assert "VLLM_API_KEY" not in started_with(server.log)["environment"]


def test_arguments_of_the_user_come_last(base, stub, tmp_path):
    log = tmp_path / "logs" / "vllm.log"
    arguments = ["--max-model-len", "99"]
    with srec.start_server(base=base, python=stub, log=log, arguments=arguments, progress=True) as server:
        assert server.log == log
        assert started_with(log)["arguments"][-2:] == arguments


def test_a_server_that_dies_says_why_and_where_its_log_is(base, stub, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB", "dies")
    log = tmp_path / "log"
    with (
        pytest.raises(ModelError, match=rf"ended before it was ready: ValueError: no room for the model; .* {log}"),
        srec.serve(base=base, python=stub, log=log),
    ):
        pass
    assert gone(started_with(log)["pids"], within_s=0)
    assert "ended by itself with exit code 3" in log.read_text()


def test_a_server_that_is_never_ready_is_stopped(base, stub, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB", "hangs")
    log = tmp_path / "log"
    with (
        pytest.raises(ModelError, match=f"not ready within 6 s.* its log is {log}"),
        srec.serve(base=base, python=stub, log=log, ready_within_s=6),
    ):
        pass
    assert gone(started_with(log)["pids"], within_s=0)


def test_a_port_in_use_is_named(base, stub):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port} cannot be used"),
            srec.serve(base=base, python=stub, port=port),
        ):
            pass
    assert free_port(port) == port


def test_an_error_in_the_block_ends_the_server(base, stub):
    with pytest.raises(ZeroDivisionError), srec.start_server(base=base, python=stub) as server:
        1 / 0  # noqa: B018
    assert gone(started_with(server.log)["pids"], within_s=0)


def test_an_error_after_the_server_was_killed_tells_of_it(base, stub):
    def use(server):
        os.kill(started_with(server.log)["pids"][1], signal.SIGKILL)
        server.wait()

    with pytest.raises(ModelError, match=r"vLLM ended: .* its log is") as caught:  # noqa: SIM117
        with srec.start_server(base=base, python=stub) as server:
            use(server)
    assert "exit code -9" in server.log.read_text()
    assert gone(started_with(server.log)["pids"], within_s=0), traceback.format_exception(caught.value)


def test_a_killed_watchdog_leaves_nothing_behind_once_the_block_ends(base, stub):
    with srec.start_server(base=base, python=stub) as server:
        os.kill(started_with(server.log)["pids"][0], signal.SIGKILL)
    assert gone(started_with(server.log)["pids"])


def test_no_process_outlives_a_parent_that_was_killed(base, stub):
    code = (
        "import os, sys, time, srec\n"
        f"with srec.start_server(base={str(base)!r}, python={str(stub)!r}) as server:\n"
        "    if not os.fork(): time.sleep(600)\n"  # a child that holds all that its parent had open
        "    print(server.log, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        told = started_with(vllm_stub.Path(parent.stdout.readline().strip()))
        os.kill(parent.pid, signal.SIGKILL)
        assert gone(told["pids"])
        assert not vllm_stub.Path(told["environment"]["VLLM_RPC_BASE_PATH"]).exists()
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def test_a_server_started_by_a_thread_outlives_the_thread(base, stub):
    manager = srec.start_server(base=base, python=stub)
    entered = []
    thread = threading.Thread(target=lambda: entered.append(manager.__enter__()))
    thread.start()
    thread.join()
    try:
        assert served_models(entered[0].url) == [entered[0].base]
    finally:
        manager.__exit__(None, None, None)


def test_a_python_without_vllm_is_told_what_to_do(base, monkeypatch):
    with (
        pytest.raises(ModelError, match=r"has no vLLM; run: .* -m pip install vllm"),
        srec.serve(base=base, python=sys.executable),
    ):
        pass
    monkeypatch.delenv("SREC_VLLM_PYTHON", raising=False)
    with pytest.raises(ModelError, match=r"pip install vllm.*SREC_VLLM_PYTHON"):
        find_python()
    monkeypatch.setenv("SREC_VLLM_PYTHON", "/nowhere/python")
    with pytest.raises(ModelError, match="no python at /nowhere/python"):
        find_python()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loras": "runs/lora"}, "given as a list or by name"),
        ({"base": "local:srec-tiny#runs/lora"}, "name the base alone"),
        ({"base_url": "http://127.0.0.1:1/v1", "port": 8000}, "leave out what is for a new one"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(base, given, sentence):
    with pytest.raises(InputError, match=sentence), srec.start_server(**{"base": base, **given}):
        pass


def test_two_folders_of_one_name_need_names(tmp_path, base):
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        lora(tmp_path / place / "lora")
    with (
        pytest.raises(InputError, match="give them names of their own"),
        srec.start_server([tmp_path / "x" / "lora", tmp_path / "y" / "lora"], base=base),
    ):
        pass


# A server that is running already


@pytest.fixture
def hot(base, stub, monkeypatch):
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    with srec.start_server(base=base, python=stub) as server:
        yield server


def test_a_lora_is_loaded_into_a_running_server_and_taken_out_again(tmp_path, base, hot):
    assert option(hot.log, "--max-lora-rank") == "64"
    assert option(hot.log, "--max-num-seqs") == "1"
    folder = lora(tmp_path / "mild")
    with srec.serve(folder, base=base, base_url=hot.url) as lm:
        assert lm.model == f"vllm/{name_of(folder, base)}"
        assert served_models(hot.url) == [hot.base, name_of(folder, base)]
        with srec.serve(folder, base=base, base_url=hot.url) as again:
            assert again.model == lm.model
        assert served_models(hot.url) == [hot.base, name_of(folder, base)]
    assert served_models(hot.url) == [hot.base]


def test_a_lora_that_the_server_cannot_load_is_an_error_with_its_words(tmp_path, base, hot):
    with (
        pytest.raises(ModelError, match=r"cannot load .*broken.*500.*expected target modules"),
        srec.serve(lora(tmp_path / "broken"), base=base, base_url=hot.url),
    ):
        pass


def test_a_lora_that_cannot_be_taken_out_is_told(tmp_path, base, hot):
    manager = srec.serve(lora(tmp_path / "mild"), base=base, base_url=hot.url)
    manager.__enter__()
    os.kill(started_with(hot.log)["pids"][1], signal.SIGKILL)
    assert gone(started_with(hot.log)["pids"])
    with pytest.warns(StaysLoadedWarning, match="mild@.* stays loaded"):
        manager.__exit__(None, None, None)


def test_a_server_that_loads_no_loras_is_told_how_to(tmp_path, base, stub):
    with (
        srec.start_server(base=base, python=stub) as server,
        pytest.raises(ModelError, match="--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        srec.serve(lora(tmp_path / "mild"), base=base, base_url=server.url),
    ):
        pass


def test_a_server_of_another_model_is_refused(tmp_path, base, hot):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"another": "model"}')
    with (
        pytest.raises(ModelError, match=r"does not serve other@.*--served-model-name"),
        srec.serve(base=other, base_url=hot.url),
    ):
        pass


# The verb


def hear_control_c():
    """A program started by one in the background may have SIGINT ignored; Ctrl-C must reach this one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_the_verb_says_how_to_reach_the_models_and_ends_calmly(tmp_path, base, stub, by):
    folder = lora(tmp_path / "mild")
    verb = ["serve", "--base", base, "--lora", folder, "--lora", f"twin={folder}", "--python", stub]
    verb += ["--log", tmp_path / "log", "--", "--dtype", "float32"]
    command = [sys.executable, "-c", "from srec.cli import main; main()", *map(str, verb)]
    with subprocess.Popen(
        command,
        preexec_fn=hear_control_c,  # noqa: PLW1509 (no thread of this process holds a lock that the child needs)
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        said = [running.stdout.readline() for _ in range(11)]
        running.send_signal(by)
        try:
            _, errors = running.communicate(timeout=30)
        finally:
            running.kill()  # else one that does not end would stay behind
    assert running.returncode == 0, errors
    assert errors == "srec: the server has ended\n"
    name, base_name = name_of(folder, base), obtain(str(base)).identity
    assert f"serves {base_name}, {name}, twin@" in said[0]
    assert f"#{name}'" in said[4]
    assert said[6].strip() == "from openai import OpenAI"
    assert f'model="{name}"' in said[8]
    assert said[10] == "Ctrl-C ends it.\n"
    assert started_with(tmp_path / "log")["arguments"][-2:] == ["--dtype", "float32"]
    assert gone(started_with(tmp_path / "log")["pids"], within_s=0)
