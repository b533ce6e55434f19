"""Every column of bytes is known: sealed and rotated, or something else and said to be."""

from sqlalchemy import LargeBinary

import hooks.models
import registry.models
from config import wiring
from registry.db import Base

# Not sealed by a key ring: what it is instead.
OTHERS = {
    ("blob", "envelope"): "wrapped data keys, which the rotation goes through by themselves",
    ("domain_key", "wrapped"): "keys under the master key",
    ("upstream_page", "body"): "pages of public indexes, in clear",
}


def test_each_column_of_bytes_is_rotated_or_something_else() -> None:
    assert hooks.models
    assert registry.models
    columns = {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    fields = wiring.sealed_fields()
    sealed = {(field.table.name, field.box) for field in fields}
    assert columns == sealed | OTHERS.keys()
    assert not sealed & OTHERS.keys()
    for field in fields:
        assert field.column.name in field.rows.selected_columns
        assert {column.name for column in field.key} <= set(field.rows.selected_columns.keys())
