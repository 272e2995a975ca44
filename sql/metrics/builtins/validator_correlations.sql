-- Targets with the same decisions are counted first: pairs are made of the few different ones, not of
-- every target.
select flywheel._set_builtin_metric(
  name => 'validator_correlations',
  storage => 'view',
  refresh_every => null,
  description => 'Per pair of validators, in both orders, how alike they decide on the same traces or spans: the newest version of each. Which outcome they go with tells flywheel.validator_associations().',
  columns => $json${
    "validator": "Name of the validator.",
    "version": "Its version: the newest.",
    "other_validator": "Name of the other validator.",
    "other_version": "Its version: the newest.",
    "n": "Traces or spans on which both decided.",
    "failed": "Of these, how many the validator failed.",
    "other_failed": "How many the other failed.",
    "both_failed": "How many both failed.",
    "redundancy": "Share of the validator's failures that the other finds too: both_failed / failed.",
    "phi": "Correlation of the two decisions, -1 to 1; null if one of them always decides alike.",
    "phi_low": "Lower end of its 95 % interval (Fisher's transformation).",
    "phi_high": "Upper end of its 95 % interval."
  }$json$,
  query => $query$
with targets as (
  select array_agg(v.version_id order by v.version_id) as versions,
    array_agg(v.status = 'failed' order by v.version_id) as fails
  from flywheel._verdicts as v
  where v.status in ('passed', 'failed') and v.version_id in (select w.version_id from flywheel._newest_versions as w)
  group by v.trace_id, v.span_id
  having count(*) > 1
),
patterns as (
  select t.versions, t.fails, count(*) as n
  from targets as t
  group by t.versions, t.fails
),
pairs as (
  select a.version_id, b.version_id as other_version_id,
    sum(p.n)::bigint as n,
    coalesce(sum(p.n) filter (where a.failed), 0)::bigint as failed,
    coalesce(sum(p.n) filter (where b.failed), 0)::bigint as other_failed,
    coalesce(sum(p.n) filter (where a.failed and b.failed), 0)::bigint as both_failed
  from patterns as p
  cross join lateral unnest(p.versions, p.fails) as a (version_id, failed)
  cross join lateral unnest(p.versions, p.fails) as b (version_id, failed)
  where a.version_id <> b.version_id
  group by a.version_id, b.version_id
)
select
  a.name as validator,
  a.version,
  b.name as other_validator,
  b.version as other_version,
  p.n,
  p.failed,
  p.other_failed,
  p.both_failed,
  p.both_failed::double precision / nullif(p.failed, 0) as redundancy,
  c.phi,
  i.low as phi_low,
  i.high as phi_high
from pairs as p
join flywheel._newest_versions as a on a.version_id = p.version_id
join flywheel._newest_versions as b on b.version_id = p.other_version_id
cross join lateral (select flywheel._phi(p.both_failed, p.failed, p.other_failed, p.n) as phi) as c
cross join lateral flywheel._correlation_interval(c.phi, p.n) as i
$query$
);
