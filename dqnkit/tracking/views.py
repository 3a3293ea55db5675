"""Saved views of MLflow's UI: which runs a page shows, in which columns and charts.

MLflow 3.15 and later keep the state of a shared view in a tag of the experiment, and open it by a
link. The format is that of the UI itself, which documents it nowhere; it was tried on 3.17.2.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TAG = "mlflow.sharedViewState."
_MAX_CHARACTERS = 20_000
"""Size of the tag that a server takes."""
_SECTION = "dqnkit"
"""Id of the section that holds a view's charts."""
_GENERATED = (
    *("best", "eval", "final", "late", "pooled", "search", "study", "time", "train"),
    *("Model metrics", "System metrics"),
)
"""Sections that the UI makes of the names of metrics; they are listed to be collapsed."""


@dataclass(frozen=True)
class Chart:
    """A chart of a view."""

    kind: str
    title: str
    settings: Mapping[str, Any]
    num_runs: int = 100
    """Number of runs that it shows, in the order of the view."""

    def state(self, number: int) -> dict[str, Any]:
        """Return the chart as the UI keeps it."""
        return {
            "type": self.kind,
            "uuid": f"{_SECTION}-{number}",
            "metricSectionId": _SECTION,
            "deleted": False,
            "isGenerated": False,
            "displayName": self.title,
            "runsCountToCompare": self.num_runs,
            **self.settings,
        }


def scatter(title: str, x: str, y: str, *, is_param: bool = False) -> Chart:
    """Return a chart with a point for each run.

    Args:
      title: Title of the chart.
      x: Metric of the horizontal axis, or a parameter.
      y: Metric of the vertical axis.
      is_param: True if `x` is a parameter.
    """
    x_axis = {"key": x, "type": "PARAM" if is_param else "METRIC"}
    return Chart("SCATTER", title, {"xaxis": x_axis, "yaxis": {"key": y, "type": "METRIC"}})


def parallel(title: str, params: Sequence[str], metrics: Sequence[str]) -> Chart:
    """Return parallel coordinates; the last metric gives the colours."""
    settings = {
        "selectedParams": list(params),
        "selectedMetrics": list(metrics),
        "showAllRuns": False,
    }
    return Chart("PARALLEL", title, settings)


def lines(title: str, metrics: Sequence[str], num_runs: int) -> Chart:
    """Return the curves of some metrics over environment steps."""
    settings = {
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
    return Chart("LINE", title, settings, num_runs)


def bars(title: str, metric: str, num_runs: int) -> Chart:
    """Return a bar for each run."""
    return Chart("BAR", title, {"metricKey": metric, "dataAccessKey": metric}, num_runs)


@dataclass(frozen=True)
class View:
    """A view of an experiment's runs."""

    name: str
    """Name of the view, unique within its experiment."""
    where: str
    """Condition on the runs, in MLflow's search syntax."""
    order_by: str
    """Metric that sorts the runs, highest first, as a column. Sorted by time, which is the UI's
    own order, runs below a parent would be hidden in it."""
    columns: Sequence[str]
    """Columns of the table, such as ``params.`training.seed` ``."""
    charts: Sequence[Chart]

    def page(self, experiment_id: str) -> str:
        """Return the path of the page that shows the view."""
        return view_page(experiment_id, self.name)

    def save(self, client: Any, experiment_id: str) -> None:
        """Save the view, in place of an earlier one of this name.

        Args:
          client: An `MlflowClient`.
          experiment_id: Id of the experiment.

        Raises:
          ValueError: If the view is too large.
        """
        now = int(time.time() * 1000)
        state = json.dumps(self._state())
        text = json.dumps({"name": self.name, "createdAt": now, "updatedAt": now, "state": state})
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(f"the view {self.name!r} takes {len(text):,} characters")
        client.set_experiment_tag(experiment_id, view_tag(self.name), text)

    def _state(self) -> dict[str, Any]:
        columns = list(self.columns)
        return {
            "searchFilter": self.where,
            "orderByKey": self.order_by,
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": columns,
            "columnOrder": columns,
            "columnWidths": {},
            "runsHiddenMode": "SHOW_ALL",  # else the charts have ten runs
            "viewMaximized": False,
            "runListHidden": False,
            "isAccordionReordered": True,
            "groupBy": None,
            "groupsExpanded": {},
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "globalLineChartConfig": {
                "xAxisKey": "step",
                "lineSmoothness": 0,
                "selectedXAxisMetricKey": "",
            },
            "compareRunSections": [
                _section(_SECTION, self.name, is_ours=True),
                *(_section(f"{_SECTION}-{each}", each, is_ours=False) for each in _GENERATED),
            ],
            "compareRunCharts": [chart.state(i) for i, chart in enumerate(self.charts)],
        }


def view_page(experiment_id: str, name: str) -> str:
    """Return the path of the page that shows a saved view."""
    # Any other part of a query would make the UI ignore the view.
    return (
        f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        f"&compareRunsMode=CHART&viewStateShareKey={_key(name)}"
    )


def view_tag(name: str) -> str:
    """Return the tag of an experiment that keeps a view."""
    return f"{_TAG}{_key(name)}"


def _key(name: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40]
    return f"dqnkit-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _section(uuid: str, name: str, *, is_ours: bool) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": is_ours,
        "isReordered": is_ours,
        "deleted": False,
        "isGenerated": not is_ours,
    }
