import torch

from msdm_lite.models.unet2d import UNet2d


def test_frames_that_are_folded_come_back_where_they_were():
    """A net whose first layers pass on, and whose last give back, is the identity, also for lengths that do not fit."""
    torch.manual_seed(0)
    plain = UNet2d([(8, 2)], 2, 2, [16, 16], [1, 1], 8)
    folded = UNet2d([(8, 2)], 2, 2, [16, 16], [1, 1], 8, frames_per_column=4)
    x = torch.randn(3, 2, 8, 13)
    assert folded(x, torch.zeros(3, 8)).shape == plain(x, torch.zeros(3, 8)).shape == x.shape
    enter, leave = folded.space_to_depth.project_in[0], folded.space_to_depth.project_out[0]
    with torch.no_grad():
        enter.weight.copy_(torch.eye(16)[:, :, None, None])
        leave.weight.copy_(torch.eye(16)[:, :, None, None])
        enter.bias.zero_()
        leave.bias.zero_()
    column = x[:, :, 2:4, 4:8]  # rows 2 and 3, the second column of four frames
    padded = torch.nn.functional.pad(x, (0, 3)).unflatten(-1, (-1, 4)).movedim(-1, 2).flatten(1, 2)
    inside = folded.space_to_depth.to_depth(padded)
    assert torch.equal(inside[:, :, 1, 1].unflatten(1, (2, 4, 2)).movedim(2, 3), column)
    back = folded.space_to_depth.to_space(inside).unflatten(1, (-1, 4)).movedim(2, -1).flatten(-2)[..., :13]
    assert torch.equal(back, x)
