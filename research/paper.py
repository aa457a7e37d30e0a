"""The paper's tables and figures with its own presets, data sets and protocols."""

from benchmarks.suites.step import PAPER_GB, PAPER_MS
from research.comparison import Cell, Comparison, Published, Scoring
from research.published import COPY_FVD, TABLE1_FVD, TABLE1_IS, TABLE2_FVD, TABLE2_IS
from trivd.presets import CONV_LSTM_ACTIVATIONS, HEADS, TABLE1_STEPS

VALIDATION = {"": Scoring("kinetics600-validation")}
TEST = {"": Scoring("kinetics600")}
TRAIN = {"": Scoring("kinetics600-train")}
UCF101 = {"": Scoring("ucf101", data="ucf101")}
COPY = {"FVD": Published(COPY_FVD)}


def _fvd(value: float, std: float | None = None) -> dict[str, Published]:
    return {"FVD": Published(value, std)}


PAPER: dict[str, Comparison] = {
    "table1": Comparison(
        "Table 1: discriminator decompositions on the validation set of Kinetics-600, equal training time",
        "paper-table1",
        "paper",
        tuple(
            Cell(
                name,
                f"table1-{name}",
                "kinetics600",
                VALIDATION,
                paper={
                    "FVD": Published(fvd),
                    "IS": Published(TABLE1_IS[name]),
                    "steps": Published(TABLE1_STEPS[name]),
                    "ms per step": Published(round(PAPER_MS[name])),
                    "GB": Published(PAPER_GB[name]),
                },
            )
            for name, fvd in TABLE1_FVD.items()
        ),
        copy=COPY,
    ),
    "table2": Comparison(
        "Table 2: recurrent units on the validation set of Kinetics-600, equal steps",
        "paper-table2",
        "paper",
        tuple(
            Cell(
                unit,
                f"table2-{unit}",
                "kinetics600",
                VALIDATION,
                paper={"FVD": Published(fvd), "IS": Published(TABLE2_IS[unit])},
            )
            for unit, fvd in TABLE2_FVD.items()
        ),
        copy=COPY,
    ),
    "conv_lstm": Comparison(
        "F.1: ConvLSTM with ReLU and with tanh after 180,000 steps, on training clips of Kinetics-600",
        "paper-conv_lstm",
        "paper",
        tuple(
            Cell(name, f"conv_lstm-{name}", "kinetics600", TRAIN, paper=_fvd(fvd))
            for name, fvd in CONV_LSTM_ACTIVATIONS.items()
        ),
        model="last",
    ),
    "table3": Comparison(
        "Table 3: TrIVD-GAN-FP, ch 120, on the test set of Kinetics-600",
        "paper-table3",
        "paper",
        (
            Cell(
                "trivd_gan_fp",
                "table3",
                "kinetics600",
                TEST,
                paper={"FVD": Published(25.74, 0.66), "IS": Published(12.54, 0.06)},
            ),
        ),
    ),
    "table4": Comparison(
        "Table 4: BAIR robot pushing, original and balanced split",
        "paper-table4",
        "paper",
        (
            Cell("original split", "bair", "bair", {"": Scoring("bair")}, paper=_fvd(103.3)),
            Cell("balanced split", "bair-balanced", "bair", {"": Scoring("bair-balanced")}, paper=_fvd(31.8, 0.2)),
        ),
    ),
    "ucf101": Comparison(
        "C.2: UCF-101, by models trained on Kinetics-600 and on UCF-101 itself",
        "paper-ucf101",
        "paper",
        (
            Cell("dvd_gan_fp, ch 48", "kinetics600-dvd_gan_fp", "kinetics600", UCF101, paper=_fvd(117)),
            Cell("trivd_gan_fp, ch 48", "kinetics600-trivd_gan_fp", "kinetics600", UCF101, paper=_fvd(95.8)),
            Cell("trivd_gan_fp, ch 120", "table3", "kinetics600", UCF101, paper=_fvd(67.7)),
            Cell("trivd_gan_fp, ch 92, trained on UCF-101", "ucf101", "ucf101", UCF101, paper=_fvd(55.2, 0.64)),
        ),
    ),
    "head": Comparison(
        "E.1: mixed projection against projection, on the validation set of Kinetics-600",
        "paper-head",
        "paper",
        tuple(Cell(head, f"head-{head}", "kinetics600", VALIDATION, paper=_fvd(fvd)) for head, fvd in HEADS.items()),
        copy=COPY,
    ),
    "figure3": Comparison(
        "Figure 3: predictions and motion fields of the model of Table 3 on test clips of UCF-101",
        "paper-figure3",
        "paper",
        (Cell("trivd_gan_fp", "table3", "kinetics600", {}),),
        motion=True,
    ),
    "figure5": Comparison(
        "Figure 5: SSIM by predicted frame on BAIR robot pushing, best of l samples",
        "paper-figure5",
        "paper",
        (Cell("trivd_gan_fp", "bair", "bair", {"": Scoring("bair")}),),
        curves=True,
    ),
}
