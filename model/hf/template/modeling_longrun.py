"""A Longrun model inside transformers: AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True).

Generation has no KV cache: each token is computed from the whole text, which is exact for every position encoding, and
slow for long texts.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .longrun_config import ModelConfig
from .longrun_init import initialise
from .longrun_pe_registry import encodings_for
from .longrun_positions_registry import plans
from .longrun_transformer import Transformer

LATER = ("extension", "extension_length", "trained_length")  # changes of a trained model


class LongrunConfig(PreTrainedConfig):
    """longrun: options of Longrun's `model.build`, all resolved: sizes, position encoding and plan, extension.

    It is in this file because transformers identifies a class by its file, and would use the code of a first model for
    a second one with the same configuration file.
    """

    model_type = "longrun"

    def __init__(self, longrun: dict[str, Any] | None = None, use_cache: bool = False, **more: Any):
        self.longrun = longrun or {}
        more.setdefault("tie_word_embeddings", False)  # the model itself uses one matrix twice where it is tied
        super().__init__(use_cache=use_cache, **more)


def network(options: dict[str, Any]) -> Transformer:
    """The model that `model.build` builds from these options, without the checks of a user's choice."""
    config = ModelConfig(**options["model"])
    shape = config.shape(options["train_length"])
    plan = plans.create(shape, options["positions"])
    model = Transformer(config, shape, options["vocab_size"], encodings_for(shape, options["pe"]), plan)
    model.config = {key: value for key, value in options.items() if key not in LATER}
    if options.get("extension") is not None:
        base = importlib.import_module(".longrun_extension_base", __package__)  # copied only where there is one
        model = base.extended(model, options["extension"], options["extension_length"])
    if options.get("trained_length") is not None:
        model.set_train_length(options["trained_length"])
    return model


class LongrunForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = LongrunConfig
    base_model_prefix = "network"

    def __init__(self, config: LongrunConfig):
        super().__init__(config)
        self.network = network(config.longrun)
        initialise(self.network, seed=0)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: `initialise` has set the weights."""

    def get_input_embeddings(self) -> nn.Embedding:
        return self.network.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.network.embedding = value

    def get_output_embeddings(self) -> nn.Linear | None:
        return self.network.head

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **ignored: Any
    ) -> CausalLMOutput:
        """Logits (B, T, V), and the mean cross-entropy of `labels` (B, T; -100 is not scored), if there are any.

        attention_mask: (B, T), 0 where a token is padding. Padding has no position, so rows are then computed one by
        one.
        """
        if ignored.get("past_key_values") is not None or ignored.get("inputs_embeds") is not None:
            raise ValueError("a Longrun model takes input_ids and has no cache: pass use_cache=False")
        if attention_mask is None or bool(attention_mask.all()):
            logits = self.network(input_ids)
        else:
            logits = torch.zeros(*input_ids.shape, self.network.vocab_size, device=input_ids.device)
            for row, tokens in enumerate(attention_mask.bool()):
                logits[row, tokens] = self.network(input_ids[row, tokens][None])[0]
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any
    ) -> dict[str, Any]:
        return {"input_ids": input_ids, "attention_mask": attention_mask}


LongrunConfig.register_for_auto_class()
LongrunForCausalLM.register_for_auto_class("AutoModelForCausalLM")
