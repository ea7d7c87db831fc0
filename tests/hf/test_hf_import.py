"""Checkpoints of transformers in our model: the same logits, and a refusal instead of anything else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import ModelError
from model.extension.base import extended
from model.generate import generate
from model.hf import load_hf
from model.hf.read_config import describe

transformers = pytest.importorskip("transformers")
from scripts.dev.hf_parity import BLOCK, CASES, FED, LIMIT, Case, distance, inwards, theirs, tokens  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = [case for case in CASES if case.config]
LLAMA, GPT2, BLOOM, NEOX, GLM = (
    next(case for case in CASES if case.name.startswith(name))
    for name in ("Llama", "GPT-2", "Bloom", "GPT-Ne", "GLM-4 ")
)


@pytest.fixture(autouse=True)
def quiet() -> None:
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def config(folder: Path, **changes: object) -> dict:
    """config.json of a folder, changed; None removes a key."""
    path = folder / "config.json"
    values = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if v is not None}
    path.write_text(json.dumps(values))
    return values


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("case", IMPORTED, ids=lambda case: case.name)
def test_logits_are_those_of_transformers(case: Case, tmp_path: Path) -> None:
    model, ours = inwards(case, tmp_path)
    assert distance(model, ours) <= LIMIT
    assert model(tokens()).logits.std() > 0.5  # flat logits would agree with anything


@pytest.mark.parametrize("case", [c for c in IMPORTED if "rope_parameters" in c.options], ids=lambda case: case.name)
def test_both_ways_to_write_a_scaling_are_read_and_the_scaling_acts(case: Case, tmp_path: Path) -> None:
    _, new = inwards(case, tmp_path)
    given = config(tmp_path)["rope_parameters"]
    base, kind = given.pop("rope_theta"), given.pop("rope_type")
    config(tmp_path, rope_parameters=None, rope_theta=base, rope_scaling={"type": kind, **given})
    assert distance(new, load_hf(tmp_path)) == 0
    config(tmp_path, rope_scaling=None)
    assert distance(new, load_hf(tmp_path)) > 1e-2


def test_the_training_length_is_the_one_that_a_scaling_is_defined_by(tmp_path: Path) -> None:
    yarn = next(case for case in CASES if case.name == "Llama, yarn")
    theirs(yarn, tmp_path)
    assert describe(tmp_path)["train_length"] == 16
    given = load_hf(tmp_path, train_length=64)
    assert given.train_length == 64
    assert distance(given, load_hf(tmp_path)) == 0  # the scaling stays what the checkpoint says
    other = tmp_path / "plain"
    theirs(LLAMA, other)
    assert load_hf(other).train_length == 64
    assert load_hf(other, train_length=24).train_length == 24


def test_they_write_the_same_text(tmp_path: Path) -> None:
    for case in (LLAMA, BLOOM):
        model, ours = inwards(case, tmp_path / case.config)
        prompt = tokens(12)
        options = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": None, "pad_token_id": 0}
        written = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        assert torch.equal(generate(ours, prompt, 12, temperature=0), written)


def test_an_imported_model_can_be_extended(tmp_path: Path) -> None:
    """By hand: the same numbers as transformers has for a checkpoint whose config.json says so."""
    model, ours = inwards(LLAMA, tmp_path)
    longer = extended(ours, {"name": "yarn_code", "factor": 4.0, "beta": 4.0}, 256)
    about = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 4.0, "rope_theta": 10000.0}
    config(tmp_path, rope_parameters=about | {"original_max_position_embeddings": 64})
    scaled = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert distance(scaled, longer) <= LIMIT
    assert distance(model, longer) > 1e-2


# ---- families that transformers has no class for: the same weights under their names


def test_chatglm_is_glm_with_fused_matrices(tmp_path: Path) -> None:
    model = theirs(GLM, tmp_path / "glm")
    old, new = weights(tmp_path / "glm"), {}
    for name, tensor in old.items():
        if ".self_attn.q_proj" in name:
            parts = [old[name.replace("q_proj", f"{x}_proj")] for x in "qkv"]
            new[name.replace("self_attn.q_proj", "self_attention.query_key_value")] = torch.cat(parts)
        elif ".k_proj" not in name and ".v_proj" not in name:
            new[name] = tensor
    for old_name, new_name in (
        ("model.embed_tokens", "transformer.embedding.word_embeddings"),
        ("model.norm", "transformer.encoder.final_layernorm"),
        ("lm_head", "transformer.output_layer"),
        ("model.layers", "transformer.encoder.layers"),
        ("self_attn.o_proj", "self_attention.dense"),
        ("mlp.gate_up_proj", "mlp.dense_h_to_4h"),
        ("mlp.down_proj", "mlp.dense_4h_to_h"),
    ):
        new = {name.replace(old_name, new_name): tensor for name, tensor in new.items()}
    new["transformer.rotary_pos_emb.inv_freq"] = torch.ones(2)  # stored by them, used by nobody
    folder = tmp_path / "chatglm"
    folder.mkdir()
    save_file(new, folder / "model.safetensors")
    about = {
        "model_type": "chatglm", "padded_vocab_size": 97, "seq_length": 64, "num_layers": 3, "hidden_size": 32,
        "num_attention_heads": 4, "multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 8,
        "ffn_hidden_size": 48, "add_qkv_bias": True, "rmsnorm": True, "original_rope": True, "layernorm_epsilon": 1e-5,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(about))
    assert distance(model, load_hf(folder)) <= LIMIT
    config(folder, rope_ratio=50)
    assert load_hf(folder).config["pe"]["base"] == 500000.0
    config(folder, multi_query_attention=False)
    with pytest.raises(ModelError, match="multi_query_attention=false, expected true"):
        load_hf(folder)


def packed(source: Path, folder: Path, **about: object) -> None:
    """A Llama of `source` with as many key heads as heads, under Baichuan's names."""
    old, new = weights(source), {}
    for name, tensor in old.items():
        if ".q_proj" in name:
            new[name.replace("q_proj", "W_pack")] = torch.cat([old[name.replace("q_proj", f"{x}_proj")] for x in "qkv"])
        elif ".k_proj" not in name and ".v_proj" not in name:
            new[name] = tensor
    folder.mkdir()
    save_file(new, folder / "model.safetensors")
    kept = {
        k: BLOCK[k] for k in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps")
    }
    kept |= {"num_attention_heads": 4, "hidden_act": "silu", "tie_word_embeddings": False, **about}
    (folder / "config.json").write_text(json.dumps({"model_type": "baichuan", **kept}))


def test_baichuan_7b_is_llama_with_one_matrix(tmp_path: Path) -> None:
    model = theirs(Case("", "LlamaConfig", BLOCK | {"num_key_value_heads": 4}), tmp_path / "llama")
    packed(tmp_path / "llama", tmp_path / "baichuan", max_position_embeddings=64, model_max_length=64)
    ours = load_hf(tmp_path / "baichuan")
    assert ours.config["pe"]["name"] == "baichuan_7b"
    assert distance(model, ours) <= LIMIT


def test_baichuan_13b_is_llama_with_alibi_for_rotary(tmp_path: Path) -> None:
    """A Llama whose tokens are all at position 0, so that nothing turns, with the biases handed to it as a mask."""
    model = theirs(Case("", "LlamaConfig", BLOCK | {"num_key_value_heads": 4}), tmp_path / "llama")
    packed(tmp_path / "llama", tmp_path / "baichuan", model_max_length=64)
    ours, x = load_hf(tmp_path / "baichuan"), tokens()
    i = torch.arange(FED)
    slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])
    mask = torch.where(i[:, None] >= i, -slopes[:, None, None] * (i[:, None] - i), torch.finfo(torch.float32).min)
    with torch.no_grad():
        expected = model(x, attention_mask=mask[None].expand(2, -1, -1, -1), position_ids=torch.zeros_like(x)).logits
        assert (ours(x) - expected).abs().max() <= LIMIT
    assert ours.config["pe"]["name"] == "baichuan_13b"


def test_baichuan_2_has_an_output_layer_with_rows_of_length_one(tmp_path: Path) -> None:
    options = BLOCK | {"num_key_value_heads": 2, "vocab_size": 125696, "num_hidden_layers": 1, "hidden_size": 8}
    theirs(Case("", "LlamaConfig", options | {"num_attention_heads": 2}), tmp_path / "llama")
    sizes = {"vocab_size": 125696, "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    packed(tmp_path / "llama", tmp_path / "two", max_position_embeddings=64, **sizes)
    ours, stored = load_hf(tmp_path / "two"), weights(tmp_path / "two")["lm_head.weight"]
    torch.testing.assert_close(ours.head.weight, torch.nn.functional.normalize(stored))
    assert ours.head.weight.norm(dim=1).allclose(torch.ones(125696))


# ---- ways to store the same weights


def test_published_names_without_prefix_and_with_buffers(tmp_path: Path) -> None:
    for case, head in ((GPT2, None), (BLOOM, None), (NEOX, "lm_head.weight")):
        folder = tmp_path / case.config
        model, ours = inwards(case, folder)
        stored = {name.removeprefix("transformer."): tensor for name, tensor in weights(folder).items()}
        if case is GPT2:
            stored |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.0.attn.masked_bias": torch.tensor(-1e4)}
        if head:
            stored[head] = stored.pop("embed_out.weight")
            stored["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(2)
        save_file(stored, folder / "model.safetensors")
        assert distance(ours, load_hf(folder)) == 0
        assert distance(model, ours) <= LIMIT


def test_shards_with_an_index(tmp_path: Path) -> None:
    model, ours = inwards(LLAMA, tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    assert distance(ours, load_hf(tmp_path / "many")) == 0
    lost = sorted((tmp_path / "many").glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match=rf"lacks {lost.name}, named by"):
        load_hf(tmp_path / "many")
    index = tmp_path / "many" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../one/model.safetensors"}}))
    with pytest.raises(ModelError, match="lacks"):
        load_hf(tmp_path / "many")


def test_half_precision_is_read_exactly(tmp_path: Path) -> None:
    model, _ = inwards(LLAMA, tmp_path)
    model.bfloat16().save_pretrained(tmp_path)
    stored = weights(tmp_path)["model.norm.weight"]
    assert stored.dtype == torch.bfloat16
    ours = load_hf(tmp_path)
    assert ours.norm.weight.dtype == torch.float32
    assert torch.equal(ours.norm.weight, stored.float())
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert distance(again, ours) <= LIMIT
    assert {p.dtype for p in load_hf(tmp_path, dtype=None).parameters()} == {torch.bfloat16}


def test_an_output_layer_that_is_the_embedding_may_be_stored_twice(tmp_path: Path) -> None:
    tied = Case("", "LlamaConfig", BLOCK | {"tie_word_embeddings": True})
    _, ours = inwards(tied, tmp_path)
    stored = weights(tmp_path)
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    save_file(stored, tmp_path / "model.safetensors")
    assert distance(ours, load_hf(tmp_path)) == 0
    stored["lm_head.weight"] += 1
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"tie_word_embeddings is true.*\n.*false into config.json"):
        load_hf(tmp_path)


# ---- refusals


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    theirs(LLAMA, tmp_path)
    return tmp_path


def test_tensors_that_are_missing_or_left_over_are_all_named(llama: Path) -> None:
    stored = weights(llama)
    del stored["model.layers.1.mlp.up_proj.weight"], stored["model.norm.weight"]
    stored["model.layers.0.self_attn.q_norm.weight"] = torch.ones(8)
    save_file(stored, llama / "model.safetensors")
    with pytest.raises(ModelError) as refused:
        load_hf(llama)
    said = str(refused.value)
    assert "missing: model.layers.1.mlp.up_proj.weight, model.norm.weight" in said
    assert "not part of the model: model.layers.0.self_attn.q_norm.weight" in said


def test_tensors_of_other_sizes_are_named(llama: Path) -> None:
    config(llama, intermediate_size=40)
    with pytest.raises(
        ModelError, match=r"sizes of config.json.\n.*up_proj.weight: makes \(96, 32\), and our .*\(80, 32\)"
    ):
        load_hf(llama)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, r"model_type=t5 is not one that Longrun reads.\nThere are: llama, mistral"),
        ({"model_type": None}, r"model_type=None"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config.*\nUse the unquantised"),
        ({"hidden_act": "gelu"}, r'hidden_act="gelu", expected "silu"'),
        ({"hidden_size": "32"}, r'hidden_size="32", expected a whole number'),
        ({"num_hidden_layers": None}, r"has no num_hidden_layers"),
        ({"rms_norm_eps": -1}, r"rms_norm_eps=-1, expected a number above 0"),
        ({"attention_bias": True}, r"mlp_bias=null, expected true|mlp_bias=false, expected true"),
        ({"rope_parameters": {"rope_type": "proportional"}}, r"rope_type=proportional.*\nThere are: default, linear"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 0}}, r"factor=0, expected a number above 0"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, r"differs from layer to layer"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, r"partial_rotary_factor=0.5.*all channels"),
        ({"rope_parameters": [1]}, r"rope_parameters=\[1\], expected a mapping"),
        ({"num_attention_heads": 3, "head_dim": 8}, r"model.kv_heads=2 does not divide model.heads=3"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_configuration_without_an_equation_is_refused(llama: Path, changes: dict, message: str) -> None:
    config(llama, **changes)
    with pytest.raises(ModelError, match=message):
        load_hf(llama)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("MPT", {"attn_config": {"alibi": False}}, "alibi=false, expected true"),
        ("MPT", {"attn_config": {"alibi_bias_max": 16}}, "alibi_bias_max=16, expected 8"),
        ("MPT", {"attn_config": {"clip_qkv": 6}}, "clip_qkv=6, expected null"),
        ("GPT-2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=true, expected false"),
        ("GPT-2", {"activation_function": "relu"}, 'activation_function="relu", expected one of gelu_new'),
        ("Bloom", {"apply_residual_connection_post_layernorm": True}, "expected false"),
        ("SmolLM3", {"no_rope_layers": [1, 2, 1]}, "no_rope_layers=.*3 times 0 or 1"),
        ("Qwen2", {"layer_types": ["full_attention"]}, "layer_types=.*3 times"),
        ("Qwen3", {"attention_bias": True}, "attention_bias=true, expected false"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_each_family_refuses_what_it_would_compute_otherwise(case: str, changes: dict, message: str, tmp_path: Path):
    theirs(next(c for c in CASES if c.name.startswith(case)), tmp_path)
    config(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        load_hf(tmp_path)


def test_folders_that_are_no_checkpoint(llama: Path) -> None:
    (llama / "config.json").rename(llama / "config.txt")
    with pytest.raises(ModelError, match=r"config.json does not exist.\nName the folder of a checkpoint"):
        load_hf(llama)
    (llama / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot be read"):
        load_hf(llama)
    (llama / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"a list where a mapping belongs"):
        load_hf(llama)
    (llama / "config.txt").replace(llama / "config.json")
    (llama / "model.safetensors").write_bytes(b"\x10" + bytes(30))
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read"):
        load_hf(llama)
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*.safetensors, and pytorch_model.bin may hold code.*\nConvert it"):
        load_hf(llama)


def test_describing_a_checkpoint_needs_neither_torch_nor_transformers(llama: Path) -> None:
    asked = f"""
import sys
from model.hf.read_config import describe
print(describe({str(llama)!r})["pe"]["name"], sorted({{"torch", "transformers", "safetensors"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "rope []\n", done.stderr


def test_loading_runs_no_code_of_the_folder_and_needs_no_transformers(llama: Path) -> None:
    config(llama, auto_map={"AutoModelForCausalLM": "evil.Model"})
    (llama / "evil.py").write_text("raise SystemExit('ran')")
    asked = f"""
import sys
sys.modules["transformers"] = None
from model.hf import load_hf
print(load_hf({str(llama)!r}).config["train_length"])
"""
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout == "64\n", done.stderr


def test_the_page_has_a_row_for_every_case() -> None:
    """After a change: python -m scripts.dev.hf_parity, and its table into docs/ecosystem.md."""
    page = (ROOT / "docs" / "ecosystem.md").read_text()
    rows = [line.split("|") for line in page[page.index("| model | in |") :].splitlines()[2:]]
    assert [row[1].strip() for row in rows] == [case.name for case in CASES]
    assert all(float(cell) <= LIMIT for row in rows for cell in row[2:4] if cell.strip())
