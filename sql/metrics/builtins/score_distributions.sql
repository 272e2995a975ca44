-- Counts per bucket are added up, so the fact is read once and can be kept up incrementally.
select flywheel._set_builtin_metric(
  name => 'score_distributions',
  storage => 'view',
  refresh_every => null,
  description => 'Scores of verdicts that decided, per validator version, pipeline, variant, environment, release, node and UTC day. To group more coarsely, add up the counts of the histograms.',
  columns => $json${
    "validator": "Name of the validator.",
    "version": "Version of the validator.",
    "pipeline": "Pipeline when the verdict was written.",
    "variant": "Variant when the verdict was written.",
    "environment": "Environment when the verdict was written.",
    "release": "Release when the verdict was written.",
    "node": "Node of the spans; null when the subject is the trace.",
    "day": "UTC day on which the traces or spans started.",
    "n": "Scores: of verdicts that passed or failed, without NaN and what squares beyond the range of floats (above 1e150, or nearer to 0 than 1e-150).",
    "mean": "Mean score.",
    "stddev": "Standard deviation of the sample (n - 1); null if n is 1.",
    "min": "Lowest score.",
    "max": "Highest score.",
    "p50": "Median: the lowest score that half of them do not exceed, within 1 %.",
    "p90": "Lowest score that 90 % do not exceed, within 1 %.",
    "p95": "Lowest score that 95 % do not exceed, within 1 %.",
    "p99": "Lowest score that 99 % do not exceed, within 1 %.",
    "histogram": "How many scores are about how high: an array of [value, count], values rising. Each count is of scores within 1 % of the value; the buckets are the same everywhere."
  }$json$,
  query => $query$
with counts as (
  select v.version_id, v.dimension_id, flywheel._quantile_bucket(v.score) as bucket,
    count(*) as n,
    sum(v.score) as total,
    var_pop(v.score) as variance,
    min(v.score) as low,
    max(v.score) as high
  from flywheel._verdicts as v
  where v.status in ('passed', 'failed') and v.score between -1e150 and 1e150
    -- Three ranges, whose share the planner knows.
    and (v.score <= -1e-150 or v.score = 0 or v.score >= 1e-150)
  group by v.version_id, v.dimension_id, flywheel._quantile_bucket(v.score)
),
ranked as (
  select c.*, flywheel._quantile_value(c.bucket) as value,
    sum(c.n) over (sorted) as up_to,
    sum(c.n) over (whole) as total_n,
    sum(c.total) over (whole) / sum(c.n) over (whole)::double precision as mean
  from counts as c
  window
    whole as (partition by c.version_id, c.dimension_id),
    sorted as (whole order by c.bucket)
),
-- Variances are put together as Chan, Golub and LeVeque (1979) do, "Updating formulae and a pairwise
-- algorithm for computing sample variances": the difference of two large sums would lose the digits.
scores as (
  select r.version_id, r.dimension_id, sum(r.n) as n, min(r.mean) as mean,
    sum(r.n * r.variance + case when abs(r.total / r.n - r.mean) > 1e-150 then r.n * (r.total / r.n - r.mean) ^ 2 else 0 end) as squares,
    min(r.low) as low, max(r.high) as high,
    min(r.value) filter (where r.up_to >= 0.50 * r.total_n) as p50,
    min(r.value) filter (where r.up_to >= 0.90 * r.total_n) as p90,
    min(r.value) filter (where r.up_to >= 0.95 * r.total_n) as p95,
    min(r.value) filter (where r.up_to >= 0.99 * r.total_n) as p99,
    jsonb_agg(jsonb_build_array(r.value, r.n) order by r.bucket) as histogram
  from ranked as r
  group by r.version_id, r.dimension_id
)
select
  d.name as validator,
  r.version,
  k.pipeline,
  k.variant,
  k.environment,
  k.release,
  k.node,
  k.day,
  s.n::bigint as n,
  s.mean,
  sqrt(s.squares / nullif(s.n - 1, 0)::double precision) as stddev,
  s.low as min,
  s.high as max,
  -- What stands for a bucket may lie outside of what is in it.
  greatest(s.low, least(s.high, s.p50)) as p50,
  greatest(s.low, least(s.high, s.p90)) as p90,
  greatest(s.low, least(s.high, s.p95)) as p95,
  greatest(s.low, least(s.high, s.p99)) as p99,
  s.histogram
from scores as s
join flywheel._validator_versions as r on r.version_id = s.version_id
join flywheel._validators as d on d.validator_id = r.validator_id
join flywheel._dimension_values as k on k.dimension_id = s.dimension_id
$query$
);
