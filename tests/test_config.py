from __future__ import annotations

from pathlib import Path

import pytest

import funcdl as fd
from funcdl.config import _OF_JAX, FLAGS, Config

DEFAULTS = {
    "x64": "explicit",
    "backend": "auto",
    "check": False,
    "dump": "",
    "cc": "",
    "cache_dir": "",
    "gpu_mem_fraction": 0.9,
    "default_matmul_precision": "default",
    "autotune": "0",
    "num_threads": 0,
    "traceback_filtering": True,
    "compile_seconds": 600.0,
    "keep_source": False,
    "debug_nans": False,
    "debug_infs": False,
    "disable_jit": False,
    "dispatch": "auto",
    "log_compiles": False,
    "explain_cache_misses": False,
    "check_tracer_leaks": False,
    "debug_key_reuse": False,
}

# (flag, given, stored); what is text is accepted from the environment as well.
GOOD = [
    ("x64", "on", "on"),
    ("x64", "off", "off"),
    ("backend", "cpu", "cpu"),
    ("backend", "reference", "reference"),
    ("gpu_mem_fraction", "0.5", 0.5),
    ("default_matmul_precision", "tensorfloat32", "tensorfloat32"),
    ("autotune", 1, "1"),
    ("autotune", "exhaustive", "exhaustive"),
    ("check", True, True),
    ("check", 1, True),
    ("check", "1", True),
    ("check", "TRUE", True),
    ("traceback_filtering", "no", False),
    ("traceback_filtering", "0", False),
    ("keep_source", "yes", True),
    ("compile_seconds", "0", 0.0),
    ("compile_seconds", 2, 2.0),
    ("dump", "out/stages", "out/stages"),
    ("dump", Path("out/stages"), "out/stages"),
    ("cache_dir", Path("/a/b"), "/a/b"),
    ("cc", "ccache gcc -B/usr", "ccache gcc -B/usr"),
    ("num_threads", 3, 3),
    ("num_threads", "12", 12),
]

BAD = [
    ("x64", "yes", "'explicit', 'off' or 'on'"),
    ("x64", True, "'explicit', 'off' or 'on'"),
    ("x64", ["on"], "'explicit', 'off' or 'on'"),
    ("backend", "CPU", "'auto', 'cpu', 'gpu' or 'reference'"),
    ("check", 2, "True or False"),
    ("check", None, "True or False"),
    ("check", "maybe", "True or False"),
    ("dump", 3, "a folder or ''"),
    ("dump", b"out", "a folder or ''"),
    ("cc", None, "a command or ''"),
    ("gpu_mem_fraction", 0, "a number above 0, at most 1"),
    ("gpu_mem_fraction", "all", "a number above 0, at most 1"),
    (
        "default_matmul_precision",
        "tf32",
        "'default', 'highest', 'float32', 'high', 'bfloat16_3x', 'tensorfloat32', 'bfloat16', "
        "'fastest'",
    ),
    ("autotune", 2, "0, 1 or 'exhaustive'"),
    ("compile_seconds", "-1", "a number of seconds, or 0 for no limit"),
    ("compile_seconds", "inf", "a number of seconds, or 0 for no limit"),
    ("compile_seconds", "nan", "a number of seconds, or 0 for no limit"),
    ("compile_seconds", True, "a number of seconds, or 0 for no limit"),
    ("num_threads", -1, "an integer from 0 to 4096"),
    ("num_threads", 4097, "an integer from 0 to 4096"),
    ("num_threads", "9" * 20, "an integer from 0 to 4096"),
    ("num_threads", True, "an integer from 0 to 4096"),
    ("num_threads", 1.0, "an integer from 0 to 4096"),
    ("num_threads", "two", "an integer from 0 to 4096"),
]


@pytest.fixture
def config() -> Config:
    return Config({})


def values(config: Config) -> dict[str, object]:
    return {name: getattr(config, name) for name in FLAGS}


def test_defaults(config: Config) -> None:
    assert values(config) == DEFAULTS
    assert values(Config(dict.fromkeys((f.variable for f in FLAGS.values()), ""))) == DEFAULTS


@pytest.mark.parametrize(("name", "given", "stored"), GOOD)
def test_assignment_stores_the_parsed_value(
    config: Config, name: str, given: object, stored: object
) -> None:
    setattr(config, name, given)
    assert values(config) == DEFAULTS | {name: stored}
    assert type(getattr(config, name)) is type(stored)


@pytest.mark.parametrize(("name", "given", "stored"), [row for row in GOOD if type(row[1]) is str])
def test_environment_sets_the_initial_value(name: str, given: str, stored: object) -> None:
    assert values(Config({f"FUNCDL_{name.upper()}": given})) == DEFAULTS | {name: stored}


@pytest.mark.parametrize(("name", "given", "allowed"), BAD)
def test_bad_value_names_flag_value_and_what_is_allowed(
    config: Config, name: str, given: object, allowed: str
) -> None:
    with pytest.raises(ValueError) as caught:
        setattr(config, name, given)
    assert str(caught.value) == f"config.{name} must be {allowed}; got {given!r}"
    assert values(config) == DEFAULTS


@pytest.mark.parametrize(("name", "given", "allowed"), [row for row in BAD if type(row[1]) is str])
def test_bad_environment_names_the_variable(name: str, given: str, allowed: str) -> None:
    with pytest.raises(ValueError) as caught:
        Config({f"FUNCDL_{name.upper()}": given})
    assert str(caught.value) == f"FUNCDL_{name.upper()} must be {allowed}; got {given!r}"


def test_unknown_flag(config: Config) -> None:
    with pytest.raises(AttributeError) as caught:
        config.num_thread = 2  # type: ignore[attr-defined]
    assert str(caught.value) == "config has no flag 'num_thread'; did you mean 'num_threads'?"
    with pytest.raises(AttributeError) as caught:
        config.on_change("zzz", print)
    assert str(caught.value) == f"config has no flag 'zzz'; flags are: {', '.join(DEFAULTS)}"


def test_override_restores_after_an_error(config: Config) -> None:
    config.num_threads = 2
    with pytest.raises(KeyError), config.override(x64="on", num_threads=1) as inner:
        assert inner is config
        assert (config.x64, config.num_threads) == ("on", 1)
        with config.override(x64="off"):
            assert config.x64 == "off"
        assert config.x64 == "on"
        raise KeyError
    assert values(config) == DEFAULTS | {"num_threads": 2}


@pytest.mark.parametrize("bad", [{"x64": "no"}, {"nothing": 1}])
def test_override_with_a_bad_flag_changes_nothing(config: Config, bad: dict[str, object]) -> None:
    seen: list[object] = []
    config.on_change("check", seen.append)
    with pytest.raises((ValueError, AttributeError)), config.override(check=True, **bad):
        pytest.fail("the block must not run")
    assert seen == []
    assert values(config) == DEFAULTS


def test_listener_hears_changes_only(config: Config) -> None:
    seen: list[object] = []
    stop = config.on_change("x64", seen.append)
    config.x64 = "explicit"
    config.x64 = "on"
    config.check = True
    with config.override(x64="off"):
        pass
    stop()
    config.x64 = "explicit"
    assert seen == ["on", "off", "on"]


def test_listener_sees_the_new_value_in_place(config: Config) -> None:
    seen: list[object] = []
    config.on_change("num_threads", lambda new: seen.append((new, config.num_threads)))
    config.num_threads = "5"  # type: ignore[assignment]
    assert seen == [(5, 5)]


def test_reads_are_plain_slot_reads(config: Config) -> None:
    assert not hasattr(config, "__dict__")
    assert "__getattr__" not in vars(Config) and "__getattribute__" not in vars(Config)
    assert all(type(vars(Config)[name]).__name__ == "member_descriptor" for name in FLAGS)


def test_describe_has_a_line_for_every_flag(config: Config) -> None:
    config.cc = "clang"
    header, *lines = config.describe().splitlines()
    assert header.split() == ["flag", "value", "variable", "allowed", "meaning"]
    for line, (name, value) in zip(lines, values(config).items(), strict=True):
        assert line.split()[:3] == [name, repr(value), f"FUNCDL_{name.upper()}"]
        assert line.index(FLAGS[name].help) == header.index("meaning")


OF_JAX = [
    ("jax_enable_x64", True, "x64", "on"),
    ("jax_enable_x64", False, "x64", "off"),
    ("jax_debug_nans", True, "debug_nans", True),
    ("jax_disable_jit", True, "disable_jit", True),
    ("jax_enable_checks", True, "check", True),
    ("jax_default_matmul_precision", "tensorfloat32", "default_matmul_precision", "tensorfloat32"),
    ("jax_default_matmul_precision", None, "default_matmul_precision", "default"),
    ("jax_platform_name", "cpu", "backend", "cpu"),
    ("jax_platforms", "cuda,cpu", "backend", "gpu"),
    ("jax_platforms", None, "backend", "auto"),
    ("jax_default_device", None, "backend", "auto"),
    ("jax_compilation_cache_dir", Path("/a/b"), "cache_dir", "/a/b"),
    ("jax_dump_ir_to", None, "dump", ""),
    ("jax_traceback_filtering", "off", "traceback_filtering", False),
    ("jax_traceback_filtering", "auto", "traceback_filtering", True),
    ("x64", "explicit", "x64", "explicit"),
]


@pytest.mark.parametrize(("name", "value", "flag", "stored"), OF_JAX)
def test_update_by_names_of_flags_and_of_jax(
    name: str, value: object, flag: str, stored: object
) -> None:
    config = Config({})
    heard: list[object] = []
    config.on_change(flag, heard.append)
    config.update(name, value)
    assert getattr(config, flag) == stored
    assert heard == ([] if stored == FLAGS[flag].default else [stored])


def test_update_takes_a_device() -> None:
    config = Config({})
    config.update("jax_default_device", fd.devices("cpu")[0])
    assert config.backend == "cpu"


def test_update_refuses_unknown_names_and_values() -> None:
    config = Config({})
    with pytest.raises(AttributeError) as caught:
        config.update("jax_enable_x46", True)
    message = str(caught.value)
    assert "no setting is called 'jax_enable_x46'; did you mean 'jax_enable_x64'?" in message
    assert all(name in message for name in FLAGS)
    with pytest.raises(AttributeError, match="Of JAX's settings: jax_check_tracer_leaks, "):
        config.update("", True)
    for name, value in [("jax_enable_x64", "maybe"), ("jax_platform_name", "tpu")]:
        with pytest.raises(ValueError, match=rf"config\.update: {name} sets the flag .* got "):
            config.update(name, value)
    with pytest.raises(ValueError, match=r"config\.check must be"):
        config.update("check", "maybe")


@pytest.mark.peers
def test_settings_of_jax_are_there() -> None:
    theirs = pytest.importorskip("jax").config.values
    assert set(_OF_JAX) <= set(theirs)
