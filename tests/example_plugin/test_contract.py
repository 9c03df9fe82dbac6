import pytest

from golfzoo.testing import check_plugin


@pytest.mark.parametrize("plugin", ["bzip2", "tail"])
def test_the_plugin_keeps_its_contract(plugin):
    check_plugin(plugin)
