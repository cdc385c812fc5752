import hmac

import pytest
from gsco.agent.auth import Users, check_reachable, is_loopback
from gsco.errors import ConfigurationError

ANNA, BEN = "key-of-anna-0123456789", "key-of-ben-0123456789"


def test_each_key_has_its_user():
    users = Users.parse(f" anna:{ANNA} , ben:{BEN},anna:another-of-annas-012345 ,")
    assert [users.owner(key) for key in (ANNA, BEN, "another-of-annas-012345")] == ["anna", "ben", "anna"]
    assert users.owner("") is None and users.owner(ANNA[:-1]) is None and users.owner("anna") is None


def test_without_keys_everybody_is_the_local_user():
    assert not Users.parse("") and Users.parse("").owner("anything") == "local"


def test_keys_are_not_kept_and_all_are_compared(monkeypatch):
    users = Users.parse(f"anna:{ANNA},ben:{BEN}")
    assert ANNA not in repr(users)
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or real(a, b))
    assert users.owner(ANNA) == "anna"
    assert len(compared) == 2, "a hit must not end the search earlier than a miss"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ANNA, "entry 1 is not NAME:KEY"),
        (f"anna:{ANNA},ben:short", "key of ben is shorter than 16"),
        (f"a/b:{ANNA}", "entry 1: a user's name is"),
        (f"anna:{ANNA},ben:{ANNA}", "ben has another user's key"),
    ],
)
def test_wrong_keys_are_refused_without_being_quoted(text, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        Users.parse(text)
    assert ANNA not in str(caught.value) and "short," not in str(caught.value)


def test_other_machines_are_served_with_keys_only():
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"):
        assert is_loopback(host)
        check_reachable(host, Users())
    for host in ("0.0.0.0", "::", "10.0.0.3", "hospital.example"):
        assert not is_loopback(host)
        with pytest.raises(ConfigurationError, match="set GSCO_API_KEYS"):
            check_reachable(host, Users())
        check_reachable(host, Users.parse(f"anna:{ANNA}"))
