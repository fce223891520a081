"""The disk cache: whole entries or none, safe folders, pruning by last use."""

from __future__ import annotations

import os
import shutil
import stat
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.config import config
from funcdl.runtime import disk_cache
from funcdl.runtime.disk_cache import CacheDir, default_cache

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> CacheDir:
    return CacheDir(tmp_path / "cache")


@given(content=st.binary(min_size=1), suffix=st.sampled_from([".so", ".json", ".cubin.json"]))
def test_get_returns_what_was_put(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    store = CacheDir(tmp_path_factory.mktemp("cache", numbered=True))
    assert store.get(KEY, suffix) is None
    path = store.put(KEY, suffix, content)
    assert path.name.endswith(suffix)
    assert store.get(KEY, suffix) == path
    assert store.get_bytes(KEY, suffix) == content


def test_suffixes_keys_and_kinds_of_content_are_kept_apart(store: CacheDir, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"from a file")
    store.put(KEY, ".so", file)
    store.put(KEY, ".json", "ü")
    store.put(KEY[:-1] + "0", ".so", b"other")
    assert store.get_bytes(KEY, ".so") == b"from a file"
    assert store.get_text(KEY, ".json") == "ü"
    assert store.get_text(KEY, ".txt") is None
    store.remove(KEY, ".so")
    assert store.get(KEY, ".so") is None
    assert store.get_bytes(KEY[:-1] + "0", ".so") == b"other"


def test_empty_content_is_refused(store: CacheDir) -> None:
    with pytest.raises(ValueError, match="has no content"):
        store.put(KEY, ".so", b"")


@pytest.mark.parametrize("damage", [b"", b"content cut o", b"content cut ofX"])
def test_a_damaged_entry_is_missing_and_can_be_put_again(store: CacheDir, damage: bytes) -> None:
    path = store.put(KEY, ".so", b"content cut off")
    path.write_bytes(damage)
    assert store.get(KEY, ".so") is None
    assert not path.exists()
    store.put(KEY, ".so", b"content cut off")
    assert store.get_bytes(KEY, ".so") == b"content cut off"


def test_a_writer_keeps_its_file_when_another_writes_other_content(store: CacheDir) -> None:
    first = store.put(KEY, ".so", b"first")
    second = store.put(KEY, ".so", b"second")
    assert first.read_bytes() == b"first"
    assert store.get(KEY, ".so") in (first, second)


def test_scratch_is_private_and_removed(store: CacheDir) -> None:
    with store.scratch() as folder:
        (folder / "file").touch()
        assert folder.stat().st_dev == store.root.stat().st_dev
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_prune_deletes_the_least_recently_used(tmp_path: Path) -> None:
    store = CacheDir(tmp_path / "cache", max_bytes=250)
    now = time.time()
    paths = {}
    for age, key in ((400, "aa"), (300, "bb"), (200, "cc"), (100, "dd")):
        paths[key] = store.put(key, ".so", bytes([age % 255]) * 100)
        os.utime(paths[key], (now - age, now - age))
    assert store.get("aa", ".so")  # used again, so now the newest
    assert store.prune(min_age=150) == 200
    assert {key for key, path in paths.items() if path.exists()} == {"aa", "dd"}


def test_prune_spares_what_was_used_just_now(tmp_path: Path) -> None:
    store = CacheDir(tmp_path / "cache", max_bytes=1)
    path = store.put(KEY, ".so", b"x" * 100)
    assert store.prune() == 0
    assert path.exists()


def test_prune_removes_old_temporary_folders_only(store: CacheDir) -> None:
    with store.scratch() as old, store.scratch() as new:
        (old / "file").touch()
        (new / "file").touch()
        two_days_ago = time.time() - 2 * 86400
        os.utime(old / "file", (two_days_ago, two_days_ago))
        store.prune()
        assert not old.exists()
        assert new.exists()


@pytest.fixture
def prunings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were pruned, in order."""
    found: list[Path] = []
    prune = CacheDir.prune

    def counted(self: CacheDir, *args: float) -> int:
        found.append(self.root)
        return prune(self, *args)

    monkeypatch.setattr(CacheDir, "prune", counted)
    return found


@pytest.mark.parametrize(("age", "is_due"), [(10, False), (3500, False), (3700, True), (-60, True)])
def test_the_first_put_prunes_if_no_process_has_lately(
    tmp_path: Path, prunings: list[Path], age: int, is_due: bool
) -> None:
    for number in range(3):
        CacheDir(tmp_path).put(KEY, f".{number}", b"content")
    assert len(prunings) == 1
    stamp = tmp_path / disk_cache._STAMP
    then = time.time() - age
    os.utime(stamp, (then, then))
    store = CacheDir(tmp_path)
    for number in range(3):
        store.put(KEY, f".{number}", b"content")
    assert len(prunings) == 1 + is_due
    assert abs(stamp.stat().st_mtime - (time.time() if is_due else then)) < 5


def test_a_process_that_puts_much_prunes_again(tmp_path: Path, prunings: list[Path]) -> None:
    store = CacheDir(tmp_path, max_bytes=1600)
    for number in range(10):
        store.put(KEY, f".{number}", b"x" * 40)
    assert len(prunings) == 4  # at the first, and at every third, which passes a sixteenth


def test_a_new_folder_is_for_its_user_only(tmp_path: Path) -> None:
    store = CacheDir(tmp_path / "deep" / "cache")
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


def assert_falls_back(root: Path, reason: str) -> None:
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        store = CacheDir(root)
    (warning,) = caught
    message = str(warning.message)
    assert str(root) in message
    assert str(store.root) in message
    assert "FUNCDL_CACHE_DIR" in message
    assert store.root != root
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    store.put(KEY, ".so", b"content")
    assert store.get_bytes(KEY, ".so") == b"content"


def test_a_folder_deleted_meanwhile_is_made_again(store: CacheDir) -> None:
    store.put(KEY, ".so", b"one")
    shutil.rmtree(store.root)
    assert store.get(KEY, ".so") is None
    assert store.put(KEY, ".so", b"two").read_bytes() == b"two"
    shutil.rmtree(store.root)
    with store.lock("name"), store.scratch() as folder:
        assert folder.parent == store.root
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


def test_a_deleted_folder_that_cannot_be_made_again_is_not_used(store: CacheDir) -> None:
    root = store.root
    shutil.rmtree(root)
    root.write_text("in the way")
    with pytest.warns(RuntimeWarning, match="compiled code cannot be kept in"):
        path = store.put(KEY, ".so", b"one")
    assert root not in path.parents
    assert store.get(KEY, ".so") == path
    store.remove(KEY, ".so")  # all fallbacks of a process are one folder


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o777)
    assert_falls_back(root, r"others can write to it \(mode 777\)")
    assert list(root.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_falls_back(tmp_path / "file" / "cache", "Not a directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "foreign"
    root.mkdir(mode=0o700)
    os.chown(root, 65534, 65534)
    assert_falls_back(root, "it belongs to user 65534")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_folder_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "read_only"
    root.mkdir(mode=0o500)
    assert_falls_back(root, "Permission denied")


def test_default_cache_follows_the_flag_and_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with config.override(cache_dir=str(tmp_path / "chosen")):
        assert default_cache().root == tmp_path / "chosen"
        assert default_cache() is default_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    with config.override(cache_dir=""):
        assert default_cache().root == tmp_path / "xdg" / "funcdl"
    unsafe = tmp_path / "unsafe"
    unsafe.mkdir()
    unsafe.chmod(0o777)
    with config.override(cache_dir=str(unsafe)):
        with pytest.warns(RuntimeWarning):
            default_cache()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert default_cache().root == disk_cache._private_folder()
