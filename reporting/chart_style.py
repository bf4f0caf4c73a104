"""What every chart shares: the words around it, and the colour and marker of a regimen."""

from __future__ import annotations

from inference.results import NotAssessed, RegimenForecast, Response, StudyResults
from reporting import drawing
from reporting.drawing import Heading


def heading_of(results: StudyResults, title: str, subtitle: str) -> Heading:
    """Return the words around a chart: which models made it, and what it is for."""
    generator, survival = results.bundles["generator"], results.bundles["survival"]
    footer = (
        f"Generator {generator.name} {generator.version} ({generator.trained_on})   |   "
        f"survival {survival.name} {survival.version} ({survival.trained_on})   |   seed {results.seed}"
    )
    return Heading(title, subtitle, footer, alert_of(results))


def alert_of(results: StudyResults) -> str:
    """Return the words on the use of a chart."""
    return "DEMONSTRATION MODEL - RESEARCH ONLY" if results.demonstration else "AI PREDICTION - RESEARCH ONLY"


def style_of(results: StudyResults, forecast: RegimenForecast) -> tuple[str, str]:
    """Return colour and marker of a regimen, the same in every chart."""
    index = next(n for n, f in enumerate(results.forecasts) if f.regimen_id == forecast.regimen_id)
    return drawing.PALETTE[index % len(drawing.PALETTE)], drawing.MARKERS[index % len(drawing.MARKERS)]


def category_of(response: Response | NotAssessed) -> str:
    """Return the category as it is written in charts."""
    return "n/a" if isinstance(response, NotAssessed) else str(response.category)
