from importlinter.cli import lint_imports


def test_every_room_uses_only_rooms_on_lower_floors() -> None:
    """The contracts stand in pyproject.toml; the picture in docs/."""
    assert lint_imports(no_cache=True) == 0
