"""Opens traces with pandas and DuckDB; prints, as JSON, what each finds."""

import json
import sys

import duckdb
import pandas

paths = sys.argv[1:]
frame = pandas.concat(pandas.read_parquet(path) for path in paths)
ordered = ["scheduled", "created", "published", "received", "submitted", "started", "finished", "recorded"]
in_order = all((frame[a] <= frame[b]).all() for a, b in zip(ordered, ordered[1:]))
stages = duckdb.sql(
    f"""SELECT method, count(*), count(DISTINCT sequence), count(stored), count(resolved), sum(bytes),
               max(epoch_ns(finished) - epoch_ns(scheduled)), count(failure)
        FROM read_parquet({paths}) GROUP BY method ORDER BY method"""
).fetchall()
print(
    json.dumps(
        {
            "rows": len(frame),
            "in_order": bool(in_order),
            "types": {str(frame[column].dtype) for column in ordered}.pop(),
            "first": frame["created"].min().timestamp(),
            "failures": frame["failure"].dropna().tolist(),
            "methods": stages,
        },
        default=int,
    )
)
