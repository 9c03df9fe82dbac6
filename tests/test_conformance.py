"""Every installed component, shipped or foreign, meets the contract of its kind."""

import pytest

from golfzoo.errors import PluginError
from golfzoo.testing import check_component, check_plugin
from golfzoo.zoo import discover


@pytest.mark.parametrize("key", sorted(discover().entries), ids="-".join)
def test_component_keeps_its_contract(key, zoo):
    entry = zoo.entries[key]
    if entry.component.extra:
        try:
            entry.load()
        except PluginError as error:
            pytest.skip(str(error))
    check_component(entry.component, {}, zoo)


def test_check_plugin_finds_a_plugin_and_says_what_is_wrong(install):
    check_plugin("zlib")
    with pytest.raises(
        AssertionError, match="no plugin 'zlob' is installed.*, zlib, .* name is that of its entry point"
    ):
        check_plugin("zlob")
    install("zoo-broken", {"broken": "import not_a_module_xyz"})
    with pytest.raises(AssertionError, match="plugin 'broken' is broken: ModuleNotFoundError"):
        check_plugin("broken")


BAD_COMPRESSOR = """
    from golfzoo import Component, Config, hookimpl

    class Stored:
        def __init__(self, config): ...
        def compress(self, data): return data
        def decompress(self, data, max_bytes): return {returned}

    @hookimpl
    def golfzoo_compressors():
        return [Component(kind="compressor", name="stored", config=Config, target="zoo_bad_stored:Stored", summary="")]
"""


@pytest.mark.parametrize(
    ("returned", "message"),
    [("data[:-1]", "the round trip is exact"), ("data", "no more than max_bytes is returned")],
)
def test_check_plugin_catches_a_compressor_that_lies(install, returned, message):
    install("zoo-bad", {"stored": BAD_COMPRESSOR.format(returned=returned)})
    with pytest.raises(AssertionError, match=message):
        check_plugin("stored")


BAD_ARCHITECTURE = """
    import torch
    from golfzoo import Component, Config, hookimpl

    class Bigram(torch.nn.Module):
        def __init__(self, config, vocab_size):
            super().__init__()
            self.table = torch.nn.Embedding(vocab_size, vocab_size)
        def forward(self, inputs):
            return self.table(inputs){scale}
        def {method}(self):
            return {{"table.weight": "{role}"}}

    @hookimpl
    def golfzoo_architectures():
        return [
            Component(kind="architecture", name="bigram", config=Config, target="zoo_bad_bigram:Bigram", summary="")
        ]
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"role": "table"}, "roles are embedding, head, matrix, control; got {'table.weight': 'table'}"),
        ({"method": "roles"}, "the model has a method parameter_roles"),
        ({"scale": " * float('nan')"}, "logits are finite, got 8192 of 8192 that are not"),
    ],
)
def test_check_plugin_catches_what_the_engine_refuses(install, changes, message):
    good = {"role": "embedding", "method": "parameter_roles", "scale": ""}
    install("zoo-bad", {"bigram": BAD_ARCHITECTURE.format(**(good | changes))})
    if not message:
        check_plugin("bigram")
        return
    with pytest.raises(AssertionError) as caught:
        check_plugin("bigram")
    assert message in str(caught.value)
