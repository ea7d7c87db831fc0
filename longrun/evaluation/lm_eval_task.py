"""A task for lm_eval from the test documents of a run: bits per byte of whole documents, without network access.

lm_eval run --model hf --model_args pretrained=FOLDER,trust_remote_code=True,add_bos_token=False \\
        --include_path FOLDER/lm_eval --tasks longrun_NAME

add_bos_token=False: otherwise lm_eval adds a second separator and scores it. The context length is the training length,
from config.json; max_length=N in model_args changes it.
"""

import json
from itertools import islice, pairwise
from pathlib import Path

import yaml

from data.corpus import Corpus
from data.dataset import prepare
from data.tokenizers.base import Tokenizer
from longrun.base.errors import ConfigError


def write_task(run: Path, folder: Path, tokenizer: Tokenizer, documents: int) -> str:
    """Write the first `documents` test documents of a run, and their task, into folder/lm_eval.

    Returns the name of the task. Raises ConfigError for a folder that is no run, or a run without a text.
    """
    config = run / "config.yaml"
    options = yaml.safe_load(config.read_text())["data"] if config.is_file() else {}
    data = prepare(options, tokenizer=tokenizer) if options else None
    if not isinstance(data, Corpus) or not tokenizer.token_bytes.any():  # a task, or ids without a text
        raise ConfigError(f"lm_eval={documents}: {run} was not trained on text of its own.\nLeave lm_eval out")
    name, target = f"longrun_{options['name']}", folder / "lm_eval"
    tokens, offsets = data.tokens("test"), data.documents("test")
    target.mkdir()
    with (target / "documents.jsonl").open("w", encoding="utf-8") as file:
        for start, stop in islice(pairwise(offsets), documents):
            file.write(json.dumps({"text": tokenizer.decode(tokens[start + 1 : stop])}) + "\n")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((target / "documents.jsonl").resolve())}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "byte_perplexity"}],
        "metadata": {"version": 1.0},
    }
    (target / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    return name
