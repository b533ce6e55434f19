"""The figures of delivery by their definitions, and boards' columns: values in, values out."""

from datetime import UTC, datetime, timedelta

import pytest

from hooks.pipelines.definition import ActionDefinition, ActionType, PipelineDefinition, StageDefinition
from hooks.visibility.lanes import Column, merged, stops_of
from hooks.visibility.measures import Change, measure, quantiles

START = datetime(2026, 1, 1, tzinfo=UTC)


def change(
    hour: float, word: str = "good", *, group: str = "g", lead: float | None = None, undone: float = 0
) -> Change:
    at = START + timedelta(hours=hour)
    undone_at = START + timedelta(hours=undone) if undone else None
    is_good = word in {"good", "undone", "rollback"}
    return Change(group, at, is_good, word in {"failed", "undone"}, word == "rollback", undone_at, lead)


def test_nothing_has_no_rates() -> None:
    told = measure([], START, 7)
    assert (told.deployments, told.change_failure_rate, told.lead_time_seconds.median) == (0, None, None)
    assert told.per_day == (0,) * 7


@pytest.mark.parametrize(
    ("values", "median", "p90"),
    [([5], 5, 5), ([1, 2], 1.5, 2), (range(1, 11), 5.5, 9), (range(1, 12), 6, 10), ([9, 1, 5], 5, 9)],
)
def test_quantiles_are_the_median_and_the_nearest_rank(values: list[float], median: float, p90: float) -> None:
    assert (quantiles(values).median, quantiles(values).p90) == (median, p90)


def test_what_failed_or_was_undone_is_a_failure_and_what_was_stopped_is_none() -> None:
    told = measure(
        [change(1), change(2, "failed"), change(3, "stopped"), change(4), change(5, "undone", undone=6)], START, 7
    )
    assert (told.deployments, told.failures, told.change_failure_rate) == (3, 2, 0.5)
    assert told.deployments_per_day == round(3 / 7, 4)


def test_a_group_is_restored_by_its_next_success_and_failures_in_a_row_are_one_incident() -> None:
    told = measure(
        [
            change(1, "failed"), change(2, "failed"), change(4, "rollback"),  # three hours
            change(3, group="other"), change(5, "failed", group="other"),  # not yet
            change(6, "undone", undone=9), change(10, "rollback"),  # an hour: it was good until somebody undid it
        ],
        START,
        7,
    )  # fmt: skip
    assert told.time_to_restore_seconds.count == 2
    assert (told.time_to_restore_seconds.median, told.time_to_restore_seconds.p90) == (7200.0, 10800.0)
    assert (told.unrestored, told.rollbacks) == (1, 2)


def test_days_count_from_the_beginning_of_the_window() -> None:
    assert measure([change(0), change(23.9), change(24), change(167.9), change(168)], START, 7).per_day == (
        2,
        1,
        0,
        0,
        0,
        0,
        2,
    )


def test_lead_times_are_of_what_is_known_and_succeeded() -> None:
    told = measure([change(1, lead=60), change(2, lead=120), change(3), change(4, "failed", lead=9999)], START, 30)
    assert (told.lead_time_seconds.count, told.lead_time_seconds.median) == (2, 90.0)


def columns(words: str) -> list[Column]:
    return [Column("repository", word) for word in words.split()]


@pytest.mark.parametrize(
    ("ways", "order"),
    [
        (["dev staging prod"], "dev staging prod"),
        (["dev prod", "dev staging prod"], "dev staging prod"),
        (["dev test prod", "dev prod live"], "dev test prod live"),
        (["dev prod", "prod dev"], "dev prod"),  # they disagree: the first one counts
        (["dev a", "dev b"], "dev b a"),
    ],
)
def test_columns_go_in_the_order_of_stages(ways: list[str], order: str) -> None:
    assert merged(columns(way) for way in ways) == tuple(columns(order))


def test_groups_of_machines_and_of_containers_are_columns() -> None:
    def ship(provider: str, group: str) -> ActionDefinition:
        said = {"ApplicationName": "shop", "DeploymentGroupName": group}
        return ActionDefinition(group, ActionType("Deploy", "AWS", provider), configuration=said)

    source = ActionDefinition("Package", ActionType("Source", "Entrepot", "Package"))
    stages = (
        StageDefinition("Source", (source,)),
        StageDefinition("Prod", (ship("CodeDeploy", "machines"), ship("CodeDeployToECS", "containers"))),
    )
    found = stops_of(PipelineDefinition("p", stages), "dev")
    assert [stop.column.name for stop in found] == ["dev", "machines", "containers"]
