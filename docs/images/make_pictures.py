"""Make the picture of README.md: a drawing, the same in three styles, and enlarged, by a running gateway.

    sluicegate serve
    python docs/images/make_pictures.py http://127.0.0.1:8000 docs/images/lighthouse.png

The drawing is made here in code; every change to it is a job of the gateway's HTTP interface.
"""

import io
import math
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 640, 480
PANEL = (312, 234)
GAP, CAPTION = 8, 26
STYLES = (19, 4, 12)
DETAIL = (96, 72)
"""Size of the small picture that is enlarged four times."""

Points = list[tuple[float, float]]


def draw_scene(scale: int = 2) -> Image.Image:
    """A lighthouse and a boat at sunset, drawn `scale` times as large and reduced, so that edges are smooth."""
    rng = np.random.default_rng(11)
    width, height = WIDTH * scale, HEIGHT * scale
    horizon = round(height * 0.60)
    picture = Image.fromarray(_sky_and_sea(width, height, horizon, rng))
    _sun(picture, round(width * 0.36), horizon - 34 * scale, 46 * scale, horizon)
    _clouds(picture, scale, rng)
    pen = ImageDraw.Draw(picture)
    _hills(pen, width, horizon, scale, rng)
    _glitter(pen, round(width * 0.36), horizon, height, scale=scale, rng=rng)
    _boat(pen, round(width * 0.27), round(height * 0.74), scale)
    _cliff(pen, width, height, scale, rng)
    _lighthouse(pen, round(width * 0.80), round(height * 0.60), scale)
    _gulls(pen, scale)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _sky_and_sea(width: int, height: int, horizon: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    sky = _gradient(horizon, [(38, 62, 120), (122, 104, 160), (238, 142, 120), (255, 205, 130)])
    sea = _gradient(height - horizon, [(240, 168, 120), (92, 118, 150), (26, 72, 110), (14, 44, 82)])
    rows = np.concatenate([sky, sea])[:, None, :].repeat(width, 1)
    waves = np.sin(np.arange(height)[:, None] * 0.5 + 6 * np.sin(np.arange(width)[None, :] / 90.0)) * 7
    waves[:horizon] = 0
    grain = rng.normal(0, 3, (height, width))
    painted: np.ndarray[Any, Any] = np.clip(rows + (waves + grain)[..., None], 0, 255).astype(np.uint8)
    return painted


def _gradient(length: int, colours: list[tuple[int, int, int]]) -> np.ndarray[Any, Any]:
    places = np.linspace(0, len(colours) - 1, length)
    stops = np.arange(len(colours))
    return np.stack([np.interp(places, stops, [colour[band] for colour in colours]) for band in range(3)], -1)


def _sun(picture: Image.Image, x: int, y: int, radius: int, horizon: int) -> None:
    light = Image.new("L", picture.size, 0)
    ImageDraw.Draw(light).ellipse((x - 3 * radius, y - 3 * radius, x + 3 * radius, y + 3 * radius), fill=120)
    light = light.filter(ImageFilter.GaussianBlur(radius))
    ImageDraw.Draw(light).ellipse((x - radius, y - radius, x + radius, y + radius), fill=250)
    light.paste(0, (0, horizon, picture.width, picture.height))
    picture.paste(Image.new("RGB", picture.size, (255, 240, 190)), (0, 0), light)


def _clouds(picture: Image.Image, scale: int, rng: np.random.Generator) -> None:
    for x, y, breadth in ((0.10, 0.16, 150), (0.55, 0.10, 190), (0.88, 0.26, 120), (0.20, 0.34, 110)):
        puff = Image.new("L", picture.size, 0)
        pen = ImageDraw.Draw(puff)
        for _ in range(26):
            spread = rng.normal(0, 0.34)
            centre = x * picture.width + spread * breadth * scale
            size = breadth * scale * 0.20 * (1 - min(0.8, abs(spread))) * rng.uniform(0.6, 1.2)
            top = y * picture.height - size * rng.uniform(0.2, 0.9)
            pen.ellipse((centre - size * 1.6, top, centre + size * 1.6, top + size), fill=150)
        puff = puff.filter(ImageFilter.GaussianBlur(4 * scale))
        picture.paste(Image.new("RGB", picture.size, (255, 214, 196)), (0, 0), puff)


def _hills(pen: ImageDraw.ImageDraw, width: int, horizon: int, scale: int, rng: np.random.Generator) -> None:
    for colour, tall, start in (((126, 98, 140), 74, 0.42), ((84, 72, 120), 44, 0.56)):
        phase = rng.uniform(0, 6)
        ridge: Points = [(width * start, horizon)]
        for x in range(round(width * start), width + 6, 6):
            rise = 1 - math.exp(-(x / width - start) * 9)
            wave = 0.72 + 0.20 * math.sin(x / (52 * scale) + phase) + 0.08 * math.sin(x / (13 * scale) + phase)
            ridge.append((x, horizon - tall * scale * rise * wave))
        pen.polygon([*ridge, (width, horizon)], fill=colour)


def _glitter(
    pen: ImageDraw.ImageDraw, x: int, horizon: int, height: int, *, scale: int, rng: np.random.Generator
) -> None:
    for _ in range(210):
        depth = rng.uniform(0, 1) ** 1.4
        y = horizon + depth * (height - horizon) * 0.92
        centre = x + rng.normal(0, (14 + 70 * depth)) * scale
        length = (4 + 20 * depth) * scale * rng.uniform(0.5, 1.3)
        colour = (255, 226, 160) if rng.uniform() < 0.7 else (255, 190, 140)
        pen.rounded_rectangle(
            (centre - length, y, centre + length, y + (1 + 1.6 * depth) * scale), radius=scale, fill=colour
        )


def _boat(pen: ImageDraw.ImageDraw, x: int, y: int, scale: int) -> None:
    def at(points: Points) -> Points:
        return [(x + right * scale, y + down * scale) for right, down in points]

    pen.polygon(at([(-54, 0), (58, 0), (40, 22), (-40, 22)]), fill=(142, 46, 44))
    pen.polygon(at([(-54, 0), (58, 0), (56, 5), (-52, 5)]), fill=(244, 232, 214))
    pen.line(at([(2, 0), (2, -118)]), fill=(70, 48, 40), width=4 * scale)
    pen.polygon(at([(7, -114), (7, -10), (60, -10)]), fill=(250, 244, 230))
    pen.polygon(at([(-3, -104), (-3, -10), (-44, -10)]), fill=(238, 178, 92))
    pen.polygon(at([(2, -118), (22, -112), (2, -106)]), fill=(206, 62, 54))
    for row in range(5):
        wide = 46 - row * 7
        pen.rounded_rectangle(
            (x - wide * scale, y + (27 + row * 8) * scale, x + wide * scale, y + (30 + row * 8) * scale),
            radius=scale,
            fill=(60, 54, 78) if row % 2 else (122, 62, 66),
        )


def _cliff(pen: ImageDraw.ImageDraw, width: int, height: int, scale: int, rng: np.random.Generator) -> None:
    edge: Points = [(width * 0.54, height)]
    for step in range(41):
        share = step / 40
        x = width * (0.54 + 0.46 * share)
        y = height * (0.98 - 0.40 * (1 - math.exp(-share * 5.2))) + rng.normal(0, 4) * scale
        edge.append((x, y))
    pen.polygon([*edge, (width, height)], fill=(66, 60, 66))
    pen.polygon(
        [*edge, (width, edge[-1][1] + 14 * scale), *[(x, y + 16 * scale) for x, y in edge[:0:-1]]], fill=(84, 122, 70)
    )
    for _ in range(130):
        share = rng.uniform(0.03, 1)
        x = width * (0.54 + 0.46 * share)
        top = height * (0.98 - 0.40 * (1 - math.exp(-share * 5.2))) + 30 * scale
        y = rng.uniform(top, max(top + 1, height))
        wide, high = rng.uniform(10, 30) * scale, rng.uniform(8, 22) * scale
        facet: Points = [
            (x, y),
            (x + wide, y + high * 0.3),
            (x + wide * 0.7, y + high),
            (x - wide * 0.2, y + high * 0.8),
        ]
        shade = int(rng.uniform(50, 98))
        pen.polygon(facet, fill=(shade + 6, shade - 4, shade))


def _lighthouse(pen: ImageDraw.ImageDraw, x: int, y: int, scale: int) -> None:
    tall, foot, head = 186, 30, 19

    def half(share: float) -> float:
        return (foot + (head - foot) * share) * scale

    for band in range(7):
        low, high = band / 7, (band + 1) / 7
        tower: Points = [
            (x - half(low), y - tall * scale * low),
            (x + half(low), y - tall * scale * low),
            (x + half(high), y - tall * scale * high),
            (x - half(high), y - tall * scale * high),
        ]
        pen.polygon(tower, fill=(206, 58, 50) if band % 2 == 0 else (248, 240, 228))
        shade: Points = [((tower[0][0] + 3 * tower[1][0]) / 4, tower[0][1]), tower[1], tower[2]]
        shade.append(((tower[3][0] + 3 * tower[2][0]) / 4, tower[2][1]))
        pen.polygon(shade, fill=(150, 42, 44) if band % 2 == 0 else (198, 186, 186))
    top = y - tall * scale
    pen.rectangle((x - 26 * scale, top - 5 * scale, x + 26 * scale, top), fill=(52, 46, 56))
    pen.rectangle((x - 14 * scale, top - 32 * scale, x + 14 * scale, top - 5 * scale), fill=(255, 236, 150))
    for bar in (-14, -5, 4, 13):
        pen.rectangle((x + bar * scale, top - 32 * scale, x + (bar + 2) * scale, top - 5 * scale), fill=(52, 46, 56))
    pen.polygon(
        [(x - 20 * scale, top - 31 * scale), (x + 20 * scale, top - 31 * scale), (x, top - 54 * scale)],
        fill=(160, 44, 42),
    )
    pen.rounded_rectangle((x - 8 * scale, y - 30 * scale, x + 8 * scale, y), radius=7 * scale, fill=(60, 44, 44))
    for up in (66, 118):
        pen.rectangle((x - 5 * scale, y - (up + 14) * scale, x + 5 * scale, y - up * scale), fill=(58, 62, 92))
    house = (x + 26 * scale, y - 38 * scale, x + 92 * scale, y + 6 * scale)
    pen.rectangle(house, fill=(240, 228, 208))
    roof: Points = [(house[0] - 6 * scale, house[1]), (house[2] + 6 * scale, house[1])]
    pen.polygon(
        [*roof, (house[2] - 12 * scale, house[1] - 26 * scale), (house[0] + 12 * scale, house[1] - 26 * scale)],
        fill=(150, 66, 56),
    )
    for left in (38, 68):
        pen.rectangle((x + left * scale, y - 26 * scale, x + (left + 12) * scale, y - 10 * scale), fill=(255, 214, 110))


def _gulls(pen: ImageDraw.ImageDraw, scale: int) -> None:
    for x, y, size in ((250, 92, 13), (288, 112, 10), (226, 126, 9), (420, 150, 8)):
        for side in (-1, 1):
            wing: Points = [(x * scale, y * scale), (x * scale + side * size * 0.6 * scale, (y - size * 0.55) * scale)]
            wing.append((x * scale + side * size * 1.5 * scale, (y - size * 0.1) * scale))
            pen.line(wing, fill=(48, 44, 62), width=2 * scale, joint="curve")


class Gateway:
    """The few calls of the HTTP interface that are needed here."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=120, trust_env=False)

    def upload(self, picture: Image.Image) -> str:
        """Store a picture; its asset id."""
        data = io.BytesIO()
        picture.save(data, "PNG")
        answer = self._http.post("/v1/assets", content=data.getvalue(), headers={"content-type": "image/png"})
        return str(answer.raise_for_status().json()["id"])

    def run(self, model: str, **given: Any) -> Image.Image:
        """Have one job done and fetch what it made."""
        headers = {"prefer": "wait=60"}
        answer = self._http.post("/v1/jobs", json={"model": model, "input": given}, headers=headers)
        job = answer.raise_for_status().json()
        if job["status"] != "succeeded":
            raise SystemExit(f"job {job['id']} is {job['status']}: {job['error']}")
        made = self._http.get(job["outputs"][0]["url"]).raise_for_status()
        return Image.open(io.BytesIO(made.content)).convert("RGB")


def make_panels(gateway: Gateway, scene: Image.Image) -> list[tuple[str, Image.Image]]:
    """Each panel of the strip with its caption."""
    asset = gateway.upload(scene)
    panels = [("the picture that was uploaded", scene)]
    for style in STYLES:
        panels.append((f"style-transfer, style {style}", gateway.run("style-transfer", image=asset, style=style)))
    left, top = round(WIDTH * 0.70), round(HEIGHT * 0.13)
    small = scene.crop((left, top, left + DETAIL[0] * 2, top + DETAIL[1] * 2)).resize(DETAIL, Image.Resampling.LANCZOS)
    panels.append((f"a detail of {DETAIL[0]} x {DETAIL[1]} pixels", small.resize(PANEL, Image.Resampling.NEAREST)))
    panels.append(("the same through realesrgan-x4", gateway.run("realesrgan-x4", image=gateway.upload(small))))
    return panels


def join(panels: list[tuple[str, Image.Image]], columns: int = 3) -> Image.Image:
    """The panels in rows, each over its caption, in 256 colours so that the file stays small."""
    rows = math.ceil(len(panels) / columns)
    cell_width, cell_height = PANEL[0] + GAP, PANEL[1] + CAPTION + GAP
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for index, (caption, picture) in enumerate(panels):
        x, y = GAP + index % columns * cell_width, GAP + index // columns * cell_height
        sheet.paste(picture.resize(PANEL, Image.Resampling.LANCZOS), (x, y))
        pen.text((x + PANEL[0] / 2, y + PANEL[1] + CAPTION / 2), caption, fill=(70, 70, 80), font=font, anchor="mm")
    palette = sheet.quantize(256, kmeans=3)
    return sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def main(url: str, target: Path) -> None:
    """Draw, ask, join, save."""
    join(make_panels(Gateway(url), draw_scene())).save(target, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
