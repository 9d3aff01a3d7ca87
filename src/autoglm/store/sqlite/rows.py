"""One INSERT of many rows. Few statement texts, so that all stay prepared."""

import sqlite3

_SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)


class RowInsert:
    """Rows are cut into powers of two, with a statement for each."""

    def __init__(self, head: str, columns: int) -> None:
        """head: up to and with `VALUES`."""
        row = f"({', '.join('?' * columns)})"
        self._statements = {rows * columns: f"{head} {', '.join([row] * rows)}" for rows in _SIZES}

    def run(self, db: sqlite3.Connection, values: list[object]) -> None:
        """values: of all rows, one behind the other."""
        position = 0
        for width, statement in self._statements.items():
            while len(values) - position >= width:
                db.execute(statement, values[position : position + width])
                position += width
