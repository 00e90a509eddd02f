"""The discriminator beside basicsr's, whose published weights it must take."""

from __future__ import annotations

import pytest
from training import require_basicsr

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.archs.discriminator_arch import UNetDiscriminatorSN  # noqa: E402


@pytest.mark.parametrize("skip", [True, False])
def test_equals_the_reference_with_its_weights(skip: bool) -> None:
    from basicsr.archs.discriminator_arch import UNetDiscriminatorSN as Reference

    torch.manual_seed(0)
    reference = Reference(3, 8, skip).eval()
    ours = UNetDiscriminatorSN(3, 8, skip_connection=skip).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    picture = torch.rand(2, 3, 32, 24)
    with torch.no_grad():
        torch.testing.assert_close(ours(picture), reference(picture))


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        UNetDiscriminatorSN(3, 4)(torch.rand(1, 3, 20, 16))
