"""The book's diagrams: pictures without data, in one visual language.

The encoder is a blue shape that narrows, the decoder an orange one that widens. A code is a dark
dot, a cloud of codes a soft blue ellipse. What the KL does is green, what flows backwards is red
and dashed, and a die stands for a random draw.

Positions and lengths are in points (1/72 inch), x to the right and y upwards.
"""

from __future__ import annotations

import base64
import functools
import io
import re
from pathlib import Path as FilePath
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, FancyBboxPatch, Polygon
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

__all__ = [
    "Diagram",
    "architecture",
    "average_error",
    "best_code",
    "cloud_on_a_curve",
    "error_at",
    "evidence_bars",
    "gaussian_kl",
    "gradient_flow",
    "graphical_model",
    "tug_of_war",
    "two_ways_out",
]

INK, MUTED, FAINT, PAPER = "#22262b", "#5c636b", "#c9ccd0", "#ffffff"
BLUE, BLUE_TINT = "#00609a", "#d3e7f5"
ORANGE, ORANGE_TINT = "#b84e00", "#fce4d2"
GREEN, GREEN_TINT = "#00785a", "#d2eee4"
RED = "#c1123f"

WORD, SYMBOL = 11.0, 15.0  # sizes of the two kinds of text
GAP = 3.8  # between words and a symbol
LINE = 1.4
PIXELS_PER_INCH = 96  # of a browser, for the PNG's width at its natural size

# matplotlib brings its fonts along, so that the glyphs are the same everywhere.
FONT = FilePath(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
SETTINGS = {"svg.hashsalt": "vae_book", "svg.fonttype": "path", "mathtext.fontset": "cm"}


class Diagram:
    """A picture that a notebook shows as SVG, or as PNG where it can't show that.

    ``svg`` is the text of the SVG, the same at every run; ``png`` the bytes of the PNG, at twice
    the natural size; ``alt`` says in words what is to be seen. ``size`` is the natural width and
    height in CSS pixels.
    """

    def __init__(self, svg: str, png: bytes, alt: str, size: tuple[int, int]) -> None:
        self.svg, self.png, self.alt, self.size = svg, png, alt, size

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        png = base64.b64encode(self.png).decode()
        data = {"image/svg+xml": self.svg, "image/png": png, "text/plain": self.alt}
        width, height = self.size
        return data, {"image/png": {"width": width, "height": height}}


class Sheet:
    """A white sheet with the shapes of the book's language on it; ``(x, y)`` is a shape's middle
    wherever nothing else is said."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), facecolor=PAPER)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def done(self, alt: str) -> Diagram:
        """The finished diagram."""
        svg, png = io.StringIO(), io.BytesIO()
        for artist in self.axes.findobj():
            artist.set_clip_on(False)  # nothing leaves the sheet, and it makes the SVG smaller
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self.figure.savefig(svg, format="svg", metadata=nothing)
        self.figure.savefig(png, format="png", dpi=2 * PIXELS_PER_INCH, metadata={"Software": None})
        text = re.sub(r"\s*<!--.*?-->", "", svg.getvalue(), flags=re.DOTALL)
        text = text[text.index("<svg") :]  # what is in front of it has no place inside a page
        text = re.sub(r' id="[a-z0-9]+_\d+"|(?<=\n) +', "", text)  # names and indents say nothing
        text = re.sub(r'(?<= d=")[^"]*', lambda path: _rounded(path[0]), text)
        text = text.replace("<svg", f'<svg role="img" aria-label={quoteattr(alt)}', 1)
        scale = PIXELS_PER_INCH / 72
        size = round(self.width * scale), round(self.height * scale)
        return Diagram(text, png.getvalue(), alt, size)

    # --- strokes and words ---------------------------------------------------------------------

    def line(self, *points, colour=INK, width=LINE, style="-", **more) -> None:
        xs, ys = zip(*points, strict=True)
        self.axes.plot(
            xs, ys, color=colour, linewidth=width, linestyle=style, solid_capstyle="round",
            **more,
        )  # fmt: skip

    def arrow(self, start, end, colour=INK, style="-", bend=0.0, width=LINE, head="-|>") -> None:
        """From ``start`` to ``end``; a positive ``bend`` makes it a bow to the left of its way."""
        self.axes.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle=f"{head},head_length=4.2,head_width=2.2", color=colour,
                linestyle=style, linewidth=width, shrinkA=0, shrinkB=0, mutation_scale=1.35,
                connectionstyle=f"arc3,rad={-bend}", zorder=4,
            )
        )  # fmt: skip

    def words(self, x, y, *pieces, colour=INK, at="center") -> None:
        """Words and formulas in one line; ``y`` is its base line, ``at`` where ``x`` is on it.

        A formula is a piece that begins with ``$``. A piece may be a pair (text, colour).
        """
        pieces = [piece if isinstance(piece, tuple) else (piece, colour) for piece in pieces]
        font = FontProperties(fname=FONT)
        sizes = [SYMBOL if text[0] == "$" else WORD for text, _ in pieces]
        widths = [
            TextPath((0, 0), text, size=points, prop=font).get_extents().x1
            for (text, _), points in zip(pieces, sizes, strict=True)
        ]
        total = sum(widths) + GAP * (len(pieces) - 1)
        x -= {"left": 0.0, "center": total / 2, "right": total}[at]
        for (text, ink), points, width in zip(pieces, sizes, widths, strict=True):
            self.axes.add_artist(
                Text(x, y, text, color=ink, fontproperties=font, fontsize=points, zorder=6,
                     ha="left", va="baseline")
            )  # fmt: skip
            x += width + GAP

    # --- the things of the language --------------------------------------------------------------

    def image(self, x, y, side=58, soft=False) -> None:
        """An image of an 8; a copy is a little soft."""
        corner = x - side / 2, y - side / 2
        self.axes.add_patch(
            FancyBboxPatch(corner, side, side, boxstyle="square,pad=0", facecolor=PAPER,
                           edgecolor=MUTED, linewidth=1)
        )  # fmt: skip
        stroke = eight() * side + (x, y)
        soft_strokes = ((0.17, 0.16), (0.14, 0.22), (0.11, 0.3), (0.08, 0.35))
        strokes = soft_strokes if soft else ((0.095, 1.0),)
        for thickness, alpha in strokes:
            self.line(*stroke, colour=INK, width=thickness * side, alpha=alpha,
                      solid_joinstyle="round")  # fmt: skip

    def network(self, x, y, width, left, right, colour, tint, *label) -> None:
        """A trapezoid, ``left`` and ``right`` its heights there, with its name in it."""
        corners = [
            (x - width / 2, y - left / 2), (x + width / 2, y - right / 2),
            (x + width / 2, y + right / 2), (x - width / 2, y + left / 2),
        ]  # fmt: skip
        self.axes.add_patch(
            Polygon(corners, facecolor=tint, edgecolor=colour, linewidth=LINE, joinstyle="round")
        )
        self.words(x, y - 4, *label, colour=colour)

    def encoder(self, x, y) -> None:
        self.network(x, y, 66, 88, 40, BLUE, BLUE_TINT, "encoder")

    def decoder(self, x, y) -> None:
        self.network(x, y, 66, 40, 88, ORANGE, ORANGE_TINT, "decoder")

    def dot(self, x, y, radius=3.4, colour=INK) -> None:
        self.axes.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor=PAPER, lw=0.8,
                                   zorder=5))  # fmt: skip

    def cloud(self, x, y, width, height, angle=0.0, colour=BLUE) -> None:
        """An ellipse, dense in the middle, that fades out; width and height are those of its edge,
        two standard deviations from the middle."""
        for share in np.linspace(1, 0.25, 5):
            self.axes.add_patch(
                Ellipse((x, y), share * width, share * height, angle=angle, facecolor=colour,
                        edgecolor="none", alpha=0.14)
            )  # fmt: skip
        self.ring(x, y, width, height, angle, colour, "-", 0.9)

    def ring(self, x, y, width, height, angle=0.0, colour=GREEN, style="--", line=LINE) -> None:
        """The outline of a cloud."""
        self.axes.add_patch(
            Ellipse((x, y), width, height, angle=angle, facecolor="none", edgecolor=colour,
                    linestyle=style, linewidth=line)
        )  # fmt: skip

    def node(self, x, y, *label, radius=17, tint=PAPER) -> None:
        """A quantity: a circle with its symbol."""
        self.axes.add_patch(
            Circle((x, y), radius, facecolor=tint, edgecolor=INK, linewidth=LINE, zorder=3)
        )
        self.words(x, y - 4, *label)

    def die(self, x, y, side=24) -> None:
        """A random draw."""
        turn = Affine2D().rotate_deg(14).translate(x, y) + self.axes.transData
        self.axes.add_patch(
            FancyBboxPatch((-side / 2, -side / 2), side, side, mutation_scale=1,
                           boxstyle=f"round,pad=0,rounding_size={0.22 * side}", facecolor=PAPER,
                           edgecolor=INK, linewidth=LINE, transform=turn, zorder=3)
        )  # fmt: skip
        for dx, dy in ((0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            self.axes.add_patch(
                Circle((0.25 * side * dx, 0.25 * side * dy), 0.085 * side, color=INK, lw=0,
                       transform=turn, zorder=4)
            )  # fmt: skip

    def cross(self, x, y, colour=RED, half=5) -> None:
        """A way that is blocked."""
        for sign in (1, -1):
            self.line((x - half, y - sign * half), (x + half, y + sign * half), colour=colour,
                      width=2.6, zorder=5)  # fmt: skip


def _rounded(path: str) -> str:
    """The outline with two decimals: small, and the same on machines that differ in the sixth."""
    text = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}", path)
    return re.sub(r"\s+", " ", text).strip()


def eight(points: int = 41) -> np.ndarray:
    """A handwritten 8 in one closed stroke, within [-0.5, 0.5]²; shape ``[points, 2]``."""
    t = np.linspace(0, 2 * np.pi, points) + 0.35
    y = 0.36 * np.cos(t)
    loop = 0.175 - 0.03 * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.5  # the lower one is larger
    x = loop * np.sin(2 * t) + 0.16 * y  # and the whole leans to the right
    return np.round(np.stack([x, y], axis=1), 4)


def _drawn(draw):
    """Draw with our own settings, and leave the caller's as they were."""

    @functools.wraps(draw)
    def drawn(*arguments, **named):
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(SETTINGS)
            return draw(*arguments, **named)

    return drawn


# --- chapters 1 to 3 --------------------------------------------------------------------------

STEPS = ("autoencoder", "noisy", "vae")


@_drawn
def architecture(step: str) -> Diagram:
    """The model of chapter 1, 2 or 3: ``"autoencoder"``, ``"noisy"`` or ``"vae"``.

    Every step has the places of the one before, so that one sees what came in.

    Raises: ValueError for another step.
    """
    if step not in STEPS:
        raise ValueError(f"step: expected one of {', '.join(STEPS)}, got {step!r}")
    noisy, pulled = step != "autoencoder", step == "vae"
    below, above = (126 if pulled else 96), (92 if noisy else 52)
    sheet, y = Sheet(440, below + above), below
    middle = 220  # the code's place
    sheet.image(33, y)
    sheet.encoder(113, y)
    sheet.decoder(327, y)
    sheet.image(407, y, soft=True)
    sheet.arrow((64, y), (79, y))
    sheet.arrow((361, y), (376, y))
    if noisy:
        _noisy_code(sheet, middle, y)
    else:
        sheet.arrow((147, y), (208, y))
        for dy in (-13, 0, 13):
            sheet.dot(middle, y + dy, radius=4.6)
        sheet.arrow((232, y), (293, y))
        sheet.words(middle, y - 40, "code", "$z$")
    if pulled:
        _pull(sheet, middle, y)
    sheet.words(33, y - 44, "$x$")
    sheet.words(407, y - 44, r"$\hat{x}$")
    floor = y - 66
    sheet.line((33, y - 51), (33, floor), (407, floor), (407, y - 51), colour=ORANGE)
    sheet.words(middle, floor - 17, "squared error", r"$\Vert x - \hat{x} \Vert^2$",
                colour=ORANGE)  # fmt: skip
    if pulled:
        sheet.words(middle, floor - 46, "loss", "$=$", ("squared error", ORANGE), "$+$",
                    "$w$", r"$\cdot$", ("KL", GREEN))  # fmt: skip
    alts = {
        "autoencoder": "A picture of an 8, x, goes into the encoder, which narrows to a code z of "
        "a few numbers. From the code the decoder, which widens, draws the copy x hat. A bracket "
        "joins picture and copy: the squared error.",
        "noisy": "The autoencoder with a cloud in the place of its code. The encoder gives mu and "
        "sigma, a die throws epsilon from N(0, I), and z = mu + sigma times epsilon is a point of "
        "the cloud, from which the decoder draws the copy. The squared error joins picture and "
        "copy.",
        "vae": "The noisy autoencoder with one thing added: green arrows pull its cloud of codes "
        "outwards to a dashed circle, N(0, I). The loss is the squared error plus w times this "
        "KL.",
    }
    return sheet.done(alts[step])


def _noisy_code(sheet: Sheet, x: float, y: float) -> None:
    sheet.arrow((147, y), (186, y))
    sheet.words(165, y + 7, r"$\mu, \sigma$", colour=BLUE)
    sheet.cloud(x, y, 58, 42)
    code = x + 11
    sheet.arrow((code, y + 59), (code, y + 6))
    sheet.dot(code, y)
    sheet.arrow((code + 5, y), (293, y))
    sheet.words(274, y + 7, "$z$")
    sheet.die(code, y + 75)
    sheet.words(code + 20, y + 71, r"$\varepsilon \sim \mathcal{N}(0, I)$", at="left")
    sheet.words(x, y - 52, r"$z = \mu + \sigma \odot \varepsilon$")


def _pull(sheet: Sheet, x: float, y: float) -> None:
    sheet.ring(x, y, 74, 74)
    for degrees in (45, 135, 225, 270, 315):
        dx, dy = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        sheet.arrow((x + 24 * dx, y + 20 * dy), (x + 36 * dx, y + 36 * dy), colour=GREEN)
    sheet.words(x - 10, y + 78, "KL: pulled towards", colour=GREEN, at="right")
    sheet.words(x - 10, y + 60, r"$\mathcal{N}(0, I)$", colour=GREEN, at="right")


@_drawn
def gradient_flow() -> Diagram:
    """Where the gradient stops if z itself is drawn, and how it gets through if ε is drawn."""
    sheet = Sheet(440, 292)
    above, below = 206, 50
    sheet.words(4, above + 70, "Draw", "$z$", "itself: the gradient stops there.", at="left")
    _flow(sheet, above, through=False)
    sheet.words(4, below + 70, "Draw", r"$\varepsilon$", "and compute", "$z$",
                "from it: the gradient gets through.", at="left")  # fmt: skip
    _flow(sheet, below, through=True)
    alt = (
        "Two rows, each from the encoder through mu and sigma to z, the decoder and the error. Red "
        "dashed arrows, the gradient, come back from the error. Above, z is a die, and behind it "
        "they end at a cross. Below, the die stands aside and gives epsilon, z is computed, and "
        "the arrows go back through mu and sigma to the encoder."
    )
    return sheet.done(alt)


def _flow(sheet: Sheet, y: float, through: bool) -> None:
    mu, sigma, z, error = (140, y + 24), (140, y - 24), (228, y), (414, y)
    sheet.encoder(42, y)
    sheet.decoder(323, y)
    for node, name in ((mu, r"$\mu$"), (sigma, r"$\sigma$")):
        sheet.node(*node, name, radius=15)
        side = 1 if node is mu else -1
        _there_and_back(sheet, (77, y + side * 12), (125, node[1]), side, through)
        _there_and_back(sheet, (155, node[1] - side * 4), (211, y + side * 6), side, through)
    if through:
        sheet.node(*z, "$z$", radius=15)
        sheet.die(228, y + 46, side=22)
        sheet.arrow((228, y + 33), (228, y + 16))
        sheet.words(244, y + 42, r"$\varepsilon$", at="left")
    else:
        sheet.die(*z)
        sheet.line((213, y), (199, y), colour=RED, style=(0, (2.6, 1.6)))
        sheet.cross(193, y)
        sheet.words(228, y + 24, r"$z \sim \mathcal{N}(\mu, \sigma^2)$")
    for start, end in (((244, y), (289, y)), ((357, y), (398, y))):
        _there_and_back(sheet, start, end, 1, True)
    sheet.node(*error, r"$\ell$", radius=15)
    sheet.words(414, y - 32, "error", colour=ORANGE)


def _there_and_back(sheet: Sheet, start, end, side: int, back: bool) -> None:
    """A black arrow, and a red dashed one beside it the other way."""
    start, end = np.array(start), np.array(end)
    along = (end - start) / np.hypot(*(end - start))
    aside = 4.5 * side * np.array([-along[1], along[0]])
    sheet.arrow(start + aside, end + aside)
    if back:
        sheet.arrow(end - aside, start - aside, colour=RED, style=(0, (2.6, 1.6)))


@_drawn
def two_ways_out() -> Diagram:
    """The clouds of three images on a line: overlapping, with a smaller σ, with means far apart.

    The last two rows differ by a factor of 3 and nothing else.
    """
    sheet = Sheet(440, 248)
    middle, step, wide = 220, 47, 94
    for y, spread, sigma, label in (
        (196, 1, 1, ("Wide clouds overlap: the noise hurts.",)),
        (112, 1, 1 / 3, ("One way out: make", ("$\\sigma$", BLUE), "small.")),
        (28, 3, 1, ("The other: keep", ("$\\sigma$", BLUE), "and move the means apart.")),
    ):
        sheet.words(4, y + 31, *label, at="left")
        sheet.line((4, y), (436, y), colour=FAINT, width=1)
        places = [middle + step * spread * k for k in (-1, 0, 1)]
        for x in places:
            if sigma < 1:
                sheet.ring(x, y, wide, 0.42 * wide, colour=FAINT, line=1)
            sheet.cloud(x, y, sigma * wide, 0.42 * sigma * wide)
        for x in places:
            sheet.dot(x, y, radius=2.8)
        if spread > 1:
            for side in (-1, 1):
                sheet.arrow((middle + side * 54, y), (middle + side * 86, y), colour=MUTED)
    alt = (
        "Three rows with the clouds of three images on a line. In the first they overlap. In the "
        "second they have the same middles and a third of the width. In the third they are as wide "
        "as at first, and their middles are three times as far apart. Rows two and three are the "
        "same picture at two scales."
    )
    return sheet.done(alt)


@_drawn
def tug_of_war() -> Diagram:
    """Who pulls the width of a cloud where, and where the two balance."""
    sheet = Sheet(440, 196)
    left, right, y = 62, 366, 118
    balance = 0.42  # of σ², for some price a and some weight w
    knot = left + balance * (right - left)
    for x, number in ((left, "$0$"), (right, "$1$")):
        sheet.line((x, y - 8), (x, y + 8), colour=MUTED)
        sheet.words(x, y - 25, number)
    sheet.line((left, y), (right, y), colour=FAINT, width=5)
    sheet.words(right + 26, y - 5, r"$\sigma^2$")
    sheet.arrow((knot - 9, y), (knot - 92, y), colour=ORANGE, width=4)
    sheet.arrow((knot + 9, y), (knot + 92, y), colour=GREEN, width=4)
    sheet.dot(knot, y, radius=6.5)
    sheet.words(knot - 14, y + 16, "squared error: narrower", colour=ORANGE, at="right")
    sheet.words(knot + 14, y + 16, "KL: wider", colour=GREEN, at="left")
    sheet.words(knot, y + 54, r"$\sigma^2 = \dfrac{1}{1 + 2a/w}$")
    for share, caption in ((0, "noise gone"), (balance, "balance"), (1, "image forgotten")):
        x = left + share * (right - left)
        if share:
            sheet.cloud(x, 54, 74 * share**0.5, 46 * share**0.5)
        sheet.dot(x, 54, radius=2.8)
        sheet.words(x, 10, caption, colour=MUTED)
    alt = (
        "A rope along the axis of sigma squared, from 0 to 1. From a knot between the ends the "
        "squared error pulls to the left, narrower, and the KL to the right, wider. They balance "
        "at sigma squared = 1 / (1 + 2a/w). Below, the cloud: a point at 0, where the noise is "
        "gone, a small ellipse at the knot, and a large one at 1, where the image is forgotten."
    )
    return sheet.done(alt)


# --- the cartoon of chapter 2 -------------------------------------------------------------------


def error_at(z: np.ndarray) -> np.ndarray:
    """A made-up error ℓ(z) over a code with one coordinate: a valley with bumps."""
    z = np.asarray(z, dtype=float)
    return 1.2 + 0.14 * z**2 - 0.5 * np.cos(2.1 * z - 1.2) - 0.22 * np.cos(0.9 * z + 0.6)


def best_code() -> float:
    """The code with the smallest error."""
    z = np.linspace(-3, 3, 60_001)
    return float(z[error_at(z).argmin()])


def average_error(mean: float, std: float) -> float:
    """The mean of ``error_at`` over the cloud N(mean, std²), by quadrature.

    Raises: ValueError for a standard deviation below 0 or NaN.
    """
    if not std >= 0:
        raise ValueError(f"std: expected a standard deviation of at least 0, got {std}")
    epsilon, weights = np.polynomial.hermite_e.hermegauss(64)
    return float(weights @ error_at(mean + std * epsilon) / weights.sum())


@_drawn
def cloud_on_a_curve() -> Diagram:
    """No cloud beats the best point: the average error over three clouds around the best code."""
    sheet = Sheet(440, 210)
    best = best_code()
    lowest = float(error_at(best))
    floor, half, reach = 36, 66, 2.45  # the axis of z; half a panel, in points and in z

    def height(error):
        return 88 + 50 * (error - lowest)

    sheet.line((8, 88), (432, 88), colour=FAINT, width=1, style=(0, (4, 3)))
    z = np.linspace(best - reach, best + reach, 121)
    for number, (std, caption) in enumerate(
        ((0.9, "a wide cloud"), (0.45, "a narrower one"), (0.12, "nearly a point"))
    ):
        middle = 74 + number * 146
        x = middle + (z - best) / reach * half
        bell = floor + 28 * np.exp(-(((z - best) / std) ** 2) / 2)
        sheet.axes.add_patch(
            Polygon([*zip(x, bell, strict=True)], facecolor=BLUE_TINT, edgecolor=BLUE, linewidth=1)
        )
        sheet.line((middle - half, floor), (middle + half, floor), colour=MUTED, width=1)
        sheet.words(middle, 14, caption, colour=BLUE)
        sheet.line(*zip(x, height(error_at(z)), strict=True), width=1.8)
        average = height(average_error(best, std))
        sheet.line((middle - half, average), (middle + half, average), colour=ORANGE, width=2.2)
        sheet.dot(middle, height(lowest), radius=4)
        if number == 0:
            sheet.words(middle + half, average - 15, "average", colour=ORANGE, at="right")
            sheet.words(middle - 13, 74, "best point", at="right")
            sheet.words(middle + 20, 172, r"$\ell_x(z)$", at="right")
    alt = (
        "Three times the same curve, the error over a code, with a dot at its lowest point and a "
        "bell, the cloud, under it. A horizontal line shows the average error over the cloud. It "
        "lies far above the dot for the wide cloud, lower for a narrower one, and almost at the "
        "dot for one that is nearly a point."
    )
    return sheet.done(alt)


# --- chapter 4 ------------------------------------------------------------------------------------


@_drawn
def graphical_model() -> Diagram:
    """The model that draws an image from a code, and the encoder, which goes back."""
    sheet = Sheet(340, 170)
    y, z, x = 92, 80, 260
    sheet.axes.add_patch(
        FancyBboxPatch((22, 22), 296, 130, boxstyle="round,pad=0,rounding_size=9", facecolor=PAPER,
                       edgecolor=MUTED, linewidth=1)
    )  # fmt: skip
    sheet.node(z, y, "$z$", radius=24)
    sheet.node(x, y, "$x$", radius=24, tint="#e3e5e8")
    sheet.arrow((z + 23, y + 13), (x - 23, y + 13), colour=ORANGE, bend=0.22)
    sheet.arrow((x - 23, y - 13), (z + 23, y - 13), colour=BLUE, bend=0.22, style=(0, (4, 2.4)))
    sheet.words(170, y + 40, "decoder", r"$p(x \vert z)$", colour=ORANGE)
    sheet.words(170, y - 52, "encoder", r"$q(z \vert x)$", colour=BLUE)
    sheet.words(z, y + 34, r"$p(z)$", colour=GREEN)
    sheet.words(308, 30, r"$N$", "images", at="right")
    alt = (
        "Two circles in a frame that stands for N images: the code z, with p(z), and the image x, "
        "shaded because it is seen. A solid arrow from z to x is the decoder, p(x|z). A dashed "
        "arrow back from x to z is the encoder, q(z|x)."
    )
    return sheet.done(alt)


def gaussian_kl(mean_q, cov_q, mean_p, cov_p) -> float:
    """KL(q ‖ p) of two Gaussians with any covariance matrices, in nats.

    Shapes: means ``[d]``, covariance matrices ``[d, d]``.
    """
    mean_q, cov_q, mean_p, cov_p = map(np.asarray, (mean_q, cov_q, mean_p, cov_p))
    precision, apart = np.linalg.inv(cov_p), mean_p - mean_q
    log_ratio = np.linalg.slogdet(cov_p)[1] - np.linalg.slogdet(cov_q)[1]
    return float(
        (np.trace(precision @ cov_q) + apart @ precision @ apart - len(apart) + log_ratio) / 2
    )


POSTERIOR = (0.0, 0.0), ((1.0, 0.75), (0.75, 1.0))
GUESSES = (
    ("a poor guess", ((0.5, -0.35), ((0.3, 0.0), (0.0, 0.42)))),
    ("a better one", ((0.0, 0.0), ((0.4375, 0.0), (0.0, 0.4375)))),
    ("the posterior", POSTERIOR),
)


@_drawn
def evidence_bars() -> Diagram:
    """log p(x) = ELBO + gap for three clouds q: the sum stays, the ELBO's share grows.

    The gaps are the divergences of the ellipses below them, drawn to scale.
    """
    sheet = Sheet(440, 286)
    foot, top, per_nat, half = 98, 234, 52, 34
    sheet.words(220, 262, r"$\log p(x)$", "$=$", ("ELBO", BLUE), "$+$",
                (r"$\mathrm{KL}(q(z \vert x) \,\Vert\, p(z \vert x))$", GREEN))  # fmt: skip
    sheet.line((58, top), (436, top), style=(0, (4, 3)))
    sheet.words(4, top - 5, r"$\log p(x)$", at="left")
    sheet.words(4, 60, r"$q(z \vert x)$", colour=BLUE, at="left")
    sheet.words(4, 38, r"$p(z \vert x)$", at="left")
    for x, (caption, q) in zip((118, 248, 378), GUESSES, strict=True):
        level = top - per_nat * gaussian_kl(*q, *POSTERIOR)
        for low, high, colour, tint in (
            (foot, level, BLUE, BLUE_TINT),
            (level, top, GREEN, GREEN_TINT),
        ):
            if high - low > 0.01:
                corners = [(x - half, low), (x + half, low), (x + half, high), (x - half, high)]
                sheet.axes.add_patch(
                    Polygon(corners, facecolor=tint, edgecolor=colour, linewidth=LINE)
                )
        sheet.words(x, (foot + level) / 2 - 4, "ELBO", colour=BLUE)
        if top - level > 16:
            sheet.words(x, (top + level) / 2 - 4, "gap", colour=GREEN)
        for dy, colour, width in ((0, PAPER, 4), (-2, INK, 1), (2, INK, 1)):  # it goes on below
            y = foot + 12 + dy
            sheet.line((x - half - 6, y - 4), (x + half + 6, y + 4), colour=colour, width=width)
        _gaussian(sheet, x, 54, q, cloud=True)
        _gaussian(sheet, x, 54, POSTERIOR, cloud=False)
        sheet.words(x, 10, caption, colour=MUTED)
    alt = (
        "Three bars of the same height, log p(x), each an ELBO and on top of it a gap, the KL "
        "between q and the true posterior. Below each bar an ellipse, q, on the dashed ellipse of "
        "the posterior. The poor guess has the largest gap, a better one a small gap, and where q "
        "is the posterior the ELBO fills the bar."
    )
    return sheet.done(alt)


def _gaussian(sheet: Sheet, x: float, y: float, gaussian, cloud: bool, unit: float = 14) -> None:
    """The ellipse of a Gaussian at two standard deviations, in a plane with its origin there."""
    (dx, dy), covariance = gaussian
    variances, axes = np.linalg.eigh(np.array(covariance))
    width, height = 4 * unit * np.sqrt(variances)
    angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    place = x + unit * dx, y + unit * dy, width, height, angle
    if cloud:
        sheet.cloud(*place)
    else:
        sheet.ring(*place, colour=INK)
