-- Facts carry an interned key of what is grouped by, so no trace is read.
create or replace view flywheel.pass_rates as
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
  (w.centre - w.margin) as rate_low,
  (w.centre + w.margin) as rate_high
from counts as c
join flywheel._validator_versions as r on r.version_id = c.version_id
join flywheel._validators as d on d.validator_id = r.validator_id
join flywheel._dimension_values as k on k.dimension_id = c.dimension_id
cross join lateral flywheel._wilson_interval(c.passed, c.passed + c.failed) as w;

comment on view flywheel.pass_rates is
  'Share of passing verdicts per validator version, pipeline, variant, environment, release, node and UTC day. Sum passed and n to group more coarsely.';
comment on column flywheel.pass_rates.validator is 'Name of the validator.';
comment on column flywheel.pass_rates.version is 'Version of the validator.';
comment on column flywheel.pass_rates.pipeline is 'Pipeline when the verdict was written.';
comment on column flywheel.pass_rates.variant is 'Variant when the verdict was written.';
comment on column flywheel.pass_rates.environment is 'Environment when the verdict was written.';
comment on column flywheel.pass_rates.release is 'Release when the verdict was written.';
comment on column flywheel.pass_rates.node is 'Node of the spans; null when the subject is the trace.';
comment on column flywheel.pass_rates.day is 'UTC day on which the traces or spans started.';
comment on column flywheel.pass_rates.n is 'Verdicts that decided: passed + failed.';
comment on column flywheel.pass_rates.passed is 'Passing verdicts.';
comment on column flywheel.pass_rates.failed is 'Failing verdicts.';
comment on column flywheel.pass_rates.errored is 'Checks that failed themselves. Not part of n.';
comment on column flywheel.pass_rates.skipped is 'Checks with nothing to decide. Not part of n.';
comment on column flywheel.pass_rates.rate is 'passed / n; null if n is 0.';
comment on column flywheel.pass_rates.rate_low is 'Lower end of the 95 % Wilson score interval of the rate.';
comment on column flywheel.pass_rates.rate_high is 'Upper end of the 95 % Wilson score interval of the rate.';
