"""What stands at the root of the repository for tools: the warnings that stop a test, and those that don't."""

import warnings

import pytest


def warn(module: str, category: type[Warning]) -> None:
    """What happens when a line of that module warns."""
    exec(f"import warnings; warnings.warn('old', {category.__name__})", {"__name__": module})


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning, DeprecationWarning, FutureWarning])
@pytest.mark.parametrize("module", ["kdref", "kdref.lab.training.fit", "tests.heart.test_attention"])
def test_a_warning_from_our_code_is_an_error(module: str, category: type[Warning]) -> None:
    with pytest.raises(category, match="old"):
        warn(module, category)


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_deprecation_inside_another_package_is_none(category: type[Warning]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warn("matplotlib._fontconfig_pattern", category)
    assert [warning.category for warning in seen] == [category]


def test_any_other_warning_of_a_package_is_an_error_since_we_have_called_it_wrongly() -> None:
    with pytest.raises(UserWarning, match="old"):
        warn("torch.optim.lr_scheduler", UserWarning)
