from golfzoo.testing import check_plugin


def test_the_plugin_keeps_its_contract():
    check_plugin("bzip2")
