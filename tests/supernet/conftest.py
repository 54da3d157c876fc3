import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from supernet.model import Supernet
from supernet.space import SearchSpace


def tiny_space(uniform: bool) -> SearchSpace:
    return SearchSpace.from_dict(
        {
            "name": "tiny",
            "num_layers": [1, 2],
            "hidden_size": [16, 32],
            "num_heads": [1, 2, 4],
            "qkv_size": [8, 16, 32],
            "head_size": [4, 8],
            "intermediate_size": [16, 32, 64],
            "uniform": uniform,
        }
    )


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return tiny_space(uniform=True)


@pytest.fixture
def bert() -> BertForSequenceClassification:
    """A small stock BERT with weights large enough for its outputs to differ by input."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
        num_labels=3,
        initializer_range=0.3,
    )
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def supernet(bert: BertForSequenceClassification) -> Supernet:
    return Supernet.from_teacher(bert).eval()


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    """Pairs of different lengths, padded on the right."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(10)[None] < torch.tensor([10, 7, 3, 1])[:, None]).long()
    return {
        "input_ids": torch.randint(1, 120, (4, 10), generator=generator) * mask,
        "attention_mask": mask,
        "token_type_ids": (torch.arange(10)[None] > 4).long() * mask,
    }
