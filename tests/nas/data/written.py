"""Files of data as people have them, written for a test."""

import gzip
import json

import pandas as pd
import pyarrow as pa

COLOURS = ("red", "green", "blue")


def rows(count, prefix="text", labels=COLOURS):
    return [{"text": f"{prefix} {i}", "label": labels[i % len(labels)]} for i in range(count)]


def write(path, records):
    frame = pd.DataFrame(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.lower()
    if name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    elif name.endswith(".arrow"):
        table = pa.Table.from_pandas(frame)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    else:
        if ".csv" in name or ".tsv" in name:
            text = frame.to_csv(index=False, sep="\t" if ".tsv" in name else ",")
        elif ".jsonl" in name or ".ndjson" in name:
            text = "".join(json.dumps(record) + "\n" for record in records)
        else:
            text = json.dumps(records)
        content = text.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


def texts(examples):
    return set(examples.text_a)
