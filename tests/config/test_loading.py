from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bridge.config import ConfigError, load, parse
from bridge.config.load import FILES
from bridge.policy.proof import prove
from tests.policy.hospital import DIRECTORY, NOON, documents, hospital, role

EXAMPLE = Path(__file__).parents[2] / "config"


def texts(**changes: str) -> dict[str, str]:
    """The texts of the example's files; `routing="..."` replaces one."""
    files = {name: (EXAMPLE / name).read_text() for name in FILES}
    return files | {f"{name}.yaml": text for name, text in changes.items()}


def problems(files: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(files, DIRECTORY)
    return [str(problem) for problem in caught.value.problems]


def problems_of(**changes: Any) -> list[str]:
    return problems({name: json.dumps(value, indent=1) for name, value in documents(**changes).items()})


def replaced(file: str, old: str, new: str) -> dict[str, str]:
    files = texts()
    assert old in files[file]
    return files | {file: files[file].replace(old, new, 1)}


def line_of(text: str, word: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if word in line)


def test_the_example_has_no_mistakes() -> None:
    assert load(EXAMPLE).roster.roles.keys() == {"cardiology", "switchboard"}


def test_every_option_that_the_example_only_shows_is_one() -> None:
    shown = {name: re.sub(r"(?m)^( *)#(?=\S)", r"\1", text) for name, text in texts().items()}
    config = parse(shown, DIRECTORY)
    assert {"dialysis", "chest-pain"} <= {rule.id for rule in config.routing.rules}
    assert [problem for problem in prove(config, NOON).problems if "calendar" not in problem.message] == []


def test_the_hash_stays_the_same_over_comments_layout_and_the_order_of_keys() -> None:
    one = texts(retention="# a comment\nclasses: {standard: {keep: 30 days, after: closed}}\n")
    other = texts(retention="classes:\n  standard:\n    after: closed\n    keep: 30 days\n")
    assert parse(one, DIRECTORY).hash == parse(other, DIRECTORY).hash


def test_the_hash_changes_with_what_the_files_say() -> None:
    assert parse(replaced("roles.yaml", "okafor, lindqvist", "lindqvist, okafor"), DIRECTORY).hash != (
        parse(texts(), DIRECTORY).hash
    )


def test_a_reference_to_nothing_names_its_place_and_the_nearest_name() -> None:
    files = replaced("routing.yaml", "      role: cardiology\n", "      role: cardiolgy\n")
    line = line_of(files["routing.yaml"], "cardiolgy")
    assert problems(files) == [
        f'config/routing.yaml:{line}:13: role "cardiolgy" does not exist; did you mean "cardiology"?'
    ]


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    files = replaced("routing.yaml", "      called:", "      caled:")
    line = line_of(files["routing.yaml"], "caled")
    assert problems(files) == [f'config/routing.yaml:{line}:7: unknown key "caled"; did you mean "called"?']


def test_a_name_in_a_list_is_found_in_its_own_place() -> None:
    files = replaced("roles.yaml", "[okafor, lindqvist]", "[okafor, lindkvist]")
    line = line_of(files["roles.yaml"], "lindkvist")
    assert problems(files)[0] == (
        f'config/roles.yaml:{line}:27: person "lindkvist" does not exist; did you mean "lindqvist"?'
    )


def test_a_key_that_stands_twice_is_a_mistake() -> None:
    found = problems(texts(retention="classes: {}\nclasses: {}\n"))
    assert found == ['config/retention.yaml:2:1: "classes" stands twice; the first is in line 1']


def test_broken_yaml_names_the_place_where_it_breaks() -> None:
    found = problems(texts(retention="classes:\n  - [1\n"))
    assert found[0].startswith("config/retention.yaml:3:1: this is not YAML: ")


def test_all_mistakes_of_all_files_are_told_at_once() -> None:
    files = replaced("roles.yaml", "time_zone: America/New_York", "time_zone: America/Boston")
    files["nightbell.yaml"] = files["nightbell.yaml"].replace("rotate_after: 7 days", "rotate_after: 7")
    files["routing.yaml"] = files["routing.yaml"].replace("after: 60s", "after: 60")
    assert [problem.split(":")[0] for problem in problems(files)] == [
        "config/nightbell.yaml",
        "config/roles.yaml",
        "config/routing.yaml",
        "config/routing.yaml",
    ]


def test_a_missing_key_is_told_at_the_block_that_lacks_it() -> None:
    files = replaced("routing.yaml", "fallback:\n  role: switchboard\n", "")
    line = line_of(files["routing.yaml"], "defaults:")
    assert problems(files) == [f'config/routing.yaml:{line}:1: "fallback" is missing']


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert [problem.file for problem in caught.value.problems] == [
        str(tmp_path / name) for name in sorted(FILES)
    ]


def test_an_empty_file_is_a_file_without_its_keys() -> None:
    assert problems(texts(retention="")) == ['config/retention.yaml:1:1: "classes" is missing']


def test_a_secret_that_stands_in_a_file_is_refused_and_not_repeated() -> None:
    found = problems(replaced("nightbell.yaml", "env:NIGHTBELL_OPERATOR_KEY", "hunter2"))
    assert "hunter2" not in found[0]
    assert "env:NAME or file:PATH" in found[0]


def test_a_channel_without_a_type_is_a_mistake() -> None:
    found = problems(replaced("nightbell.yaml", "    type: twilio\n", ""))
    assert found[0].endswith('channel "clinic-sms" has no "type", such as twilio')


@pytest.mark.parametrize(
    "every", ["fortnight", "0 days", "1 year", "RRULE:FREQ=OFTEN", "RRULE:FREQ=MINUTELY"]
)
def test_a_rotation_that_never_or_always_moves_on_is_a_mistake(every: str) -> None:
    layers = [{"people": ["ana", "ben"], "hand_off": {"every": every, "from": "2026-01-05"}}]
    found = problems_of(roles={"cardiology": role(schedule={"layers": layers})})
    assert ['"hand_off" ' in problem for problem in found] == [True]


def test_an_empty_list_where_somebody_is_needed_is_a_mistake() -> None:
    found = problems_of(roles={"cardiology": role(schedule={"layers": []})})
    assert found[0].endswith('"layers" should have at least one')


def test_default_ladders_must_be_there_for_every_priority() -> None:
    defaults = {"ladder": {"stat": "standard"}, "template": "plain", "retention": "standard"}
    assert problems_of(defaults=defaults)[0].endswith('"defaults" needs a ladder for urgent, too')


def test_two_rules_of_one_name_are_a_mistake() -> None:
    found = problems_of(rules=[{"id": "a", "then": {"role": "cardiology"}}] * 2)
    assert found[0].endswith('another rule is already called "a"')


def test_people_who_share_an_account_are_a_mistake() -> None:
    found = problems_of(people={"ben": {"matrix": "@ana:nightbell.test"}})
    assert found[0].endswith('@ana:nightbell.test is the account of "ana" already')


def test_whoever_is_scheduled_must_be_in_the_roles_room() -> None:
    found = problems_of(
        roles={"cardiology": role(members=["ben"])},
        rules=[{"then": {"role": "cardiology", "person": "cleo"}}],
    )
    assert [problem.split(": ", 1)[1] for problem in found] == [
        '"ana" is no member of role "cardiology"; add them to its members',
        '"cleo" is no member of role "cardiology"; add them to its members',
    ]


def test_numbers_and_words_without_quotes_stay_what_they_look_like() -> None:
    rules = "rules:\n  - {when: {called: +15550100, language: no}, then: {role: switchboard}}\n"
    text = texts()["routing.yaml"]
    config = parse(
        texts(routing=text[: text.index("rules:")] + rules + text[text.index("fallback:") :]), DIRECTORY
    )
    when = config.routing.rules[0].when
    assert (when.called[0].low, when.language) == ("+15550100", ("no",))


def test_settings_come_from_the_environment_or_their_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBELL_SERVER_NAME", "hospital.example")
    homeserver = load(EXAMPLE).nightbell.homeserver
    assert (homeserver.server_name, homeserver.url) == ("hospital.example", "http://127.0.0.1:8008")


def test_relative_paths_count_from_the_configurations_directory() -> None:
    config = load(EXAMPLE)
    assert config.nightbell.homeserver.registration == EXAMPLE / "secrets/registration.yaml"
    assert config.database_url == f"sqlite:///{EXAMPLE.parent / 'var/nightbell.db'}"


def test_a_calendar_that_is_no_calendar_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "c.ics").write_text("BEGIN:VCARD\nEND:VCARD\n")
    files = {
        name: json.dumps(v) for name, v in documents(roster={"calendars": {"c": {"file": "c.ics"}}}).items()
    }
    with pytest.raises(ConfigError, match="is no iCalendar file"):
        parse(files, tmp_path)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        hospital().hash = ""  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "rules": [
                    {"when": {"repeats": {"at_least": 3, "within": "2 days"}}, "then": {"role": "cardiology"}}
                ]
            },
            "should be a day at most",
        ),
        (
            {"rules": [{"when": {"words": "!!"}, "then": {"role": "cardiology"}}]},
            "should have a letter or a digit",
        ),
        (
            {
                "roles": {
                    "cardiology": role(
                        schedule={
                            "layers": [{"people": "ana"}],
                            "swaps": [
                                {"from": "2026-12-01", "until": "2026-12-02", "people": ["ana", "ana"]}
                            ],
                        }
                    )
                }
            },
            "needs two people",
        ),
        ({"roles": {"cardiology": role(room={"name": "C", "members": "duty"})}}, "'roster' or 'on_duty'"),
    ],
)
def test_what_could_never_work_is_refused(changes: dict[str, Any], said: str) -> None:
    [problem] = problems_of(**changes)
    assert said in problem


def test_the_ledger_s_room_must_be_one_of_roles_yaml() -> None:
    (problem,) = problems(replaced("nightbell.yaml", "ledger:\n", "ledger:\n  room: complianse\n"))
    assert 'room "complianse" does not exist' in problem
    assert "nightbell.yaml" in problem


def test_a_ledger_outlives_the_content_that_it_tells_of() -> None:
    [problem] = problems(replaced("nightbell.yaml", "keep: 2192 d", "keep: 80 d"))
    assert '"keep" of the ledger is shorter than content of class "standard" may live: 90 d' in problem
    assert f"nightbell.yaml:{line_of(texts()['nightbell.yaml'], 'keep: 2192 d')}:" in problem
