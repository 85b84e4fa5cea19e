"""A URL of the database in an error message: however it is misspelt, its password is not in it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.postgres.database import check_url, where

FORMS = st.sampled_from(
    [
        "{scheme}://u:{password}@host/db",
        "{scheme}://u:{password}@host:5432/db?sslmode=require",
        "{scheme}:/u:{password}@host/db",
        "{scheme}//u:{password}@host/db",
        "{scheme}:u:{password}@host/db",
        "{scheme}:///u:{password}@host/db",
        "{scheme}://u:{password}@[::1/x",
        "{scheme}://u:{password}@[::g]/x",
        "{scheme}://u:{password}@host:port/x",
        "{scheme}://u:{password}@host:999999/x",
        "{scheme}://u:{password}@@host/x",
        "{scheme}://u:{password}host/x",
        "{scheme}://host/db?u:{password}@",
        "{scheme}://host/db#{password}",
        "{scheme}://u@host/db?password={password}",
        " {scheme}://u:{password}@host/db",
        "u:{password}@host/db",
        "{password}@host/db",
        "host=h password={password}",
    ]
)
SCHEMES = st.sampled_from(["postgresql", "postgres", "postgresql+asyncpg", "postgresq", "POSTGRESQL", "http", ""])
# Letters that are in none of our sentences
PASSWORDS = st.text(st.sampled_from("XZ7@:/#?[]%&= \t")).map(lambda inside: f"ZX{inside}XZ")


@given(FORMS, SCHEMES, PASSWORDS)
@example("{scheme}://u:{password}@host/db", "postgresql", "ZX/XZ")
@example("{scheme}:/u:{password}@host/db", "postgresql", "ZXXZ")
def test_no_piece_of_a_password_is_ever_shown(form: str, scheme: str, password: str) -> None:
    url = form.format(scheme=scheme, password=password)
    said = where(url)
    try:
        check_url(url)
    except StorageUnavailableError as error:
        said += f"{error} {error.__cause__}"
    # a password with an @ of its own and without the host's is a well-formed URL: nobody can tell
    assert not {*"XZ"} & {*said} or re.fullmatch(r"[^@]*@[^@]*host/x", url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:/u:secretpw@host/db",
        "u:secretpw@host/db",
        "postgres//u:secretpw@host/db",
        "postgresql://u:sec/retpw@host/db",
        "postgresql://u:sec#retpw@host/db",
        "postgresql://u:sec?retpw@host/db",
        "postgresql://u:secretpw@[::1/x",
        "postgresql://u:secretpw/db",
    ],
)
def test_a_misspelt_url_is_refused_with_the_form_that_is_expected(url: str) -> None:
    with pytest.raises(StorageUnavailableError, match="postgresql://user:password@host:port/database") as refused:
        check_url(url)
    assert "the URL in STORAGE__POSTGRES_URL" in str(refused.value)
    assert "secr" not in str(refused.value)
    assert "retpw" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40ss@db-1.example.org:6543/my_db?sslmode=require",
        "postgresql+asyncpg://u@localhost/db",
        "postgres://[2001:db8::1]:5432/db",
        "postgresql://one.example,two.example/db?target_session_attrs=any",
        "postgresql://bindu@/bindu?host=/run/postgresql&port=5432",
    ],
)
def test_a_usual_url_is_taken(url: str) -> None:
    check_url(url)
    assert where(url) != "the URL in STORAGE__POSTGRES_URL"
