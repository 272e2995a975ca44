-- The dimension's key is in the verdict, so no trace is read.
select flywheel._set_builtin_metric(
  name => 'pass_rates',
  storage => 'incremental',
  refresh_every => null,
  description => 'Share of passing verdicts per validator version, pipeline, variant, environment, release, node and UTC day. Sum passed and n to group more coarsely.',
  columns => $json${
    "validator": "Name of the validator.",
    "version": "Version of the validator.",
    "pipeline": "Pipeline when the verdict was written.",
    "variant": "Variant when the verdict was written.",
    "environment": "Environment when the verdict was written.",
    "release": "Release when the verdict was written.",
    "node": "Node of the spans; null when the subject is the trace.",
    "day": "UTC day on which the traces or spans started.",
    "n": "Verdicts that decided: passed + failed.",
    "passed": "Passing verdicts.",
    "failed": "Failing verdicts.",
    "errored": "Checks that failed themselves. Not part of n.",
    "skipped": "Checks with nothing to decide. Not part of n.",
    "rate": "passed / n; null if n is 0.",
    "rate_low": "Lower end of the 95 % Wilson score interval of the rate.",
    "rate_high": "Upper end of the 95 % Wilson score interval of the rate."
  }$json$,
  query => $query$
with counts as (
  select v.version_id, v.dimension_id,
    count(*) filter (where v.status = 'passed') as passed,
    count(*) filter (where v.status = 'failed') as failed,
    count(*) filter (where v.status = 'error') as errored,
    count(*) filter (where v.status = 'skipped') as skipped
  from flywheel._verdicts as v
  group by v.version_id, v.dimension_id
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
  c.passed + c.failed as n,
  c.passed,
  c.failed,
  c.errored,
  c.skipped,
  c.passed::double precision / nullif(c.passed + c.failed, 0) as rate,
  case when c.passed = 0 and c.failed > 0 then 0 else w.centre - w.margin end as rate_low,
  case when c.failed = 0 and c.passed > 0 then 1 else w.centre + w.margin end as rate_high
from counts as c
join flywheel._validator_versions as r on r.version_id = c.version_id
join flywheel._validators as d on d.validator_id = r.validator_id
join flywheel._dimension_values as k on k.dimension_id = c.dimension_id
cross join lateral flywheel._wilson_interval(c.passed, c.passed + c.failed) as w
$query$
);
