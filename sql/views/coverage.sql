create or replace view flywheel.coverage as
with decided as (
  select v.version_id,
    count(*) filter (where v.status in ('passed', 'failed')) as decided,
    count(*) filter (where v.status = 'error') as errored,
    count(*) filter (where v.status = 'skipped') as skipped
  from flywheel._verdicts as v
  join flywheel._targets as g on g.trace_id = v.trace_id and g.span_id = v.span_id and g.revision = v.revision
  group by v.version_id
),
enqueued as (
  select j.version_id,
    count(*) filter (where j.state = 'pending') as pending,
    count(*) filter (where j.state = 'dead') as dead
  from flywheel._jobs as j
  join flywheel._targets as g on g.trace_id = j.trace_id and g.span_id = j.span_id and g.revision = j.revision
  where not exists (
    select from flywheel._verdicts as v
    where v.trace_id = j.trace_id and v.span_id = j.span_id and v.version_id = j.version_id
      and v.revision = j.revision
  )
  group by j.version_id
),
missing as (
  select m.version_id, count(*) as missing
  from flywheel._missing as m
  group by m.version_id
)
select
  d.name as validator,
  d.validator_id,
  bool_or(upper_inf(r.active_generations)) as enabled,
  coalesce(sum(c.decided), 0)::bigint + coalesce(sum(c.errored), 0)::bigint + coalesce(sum(c.skipped), 0)::bigint
    + coalesce(sum(e.pending), 0)::bigint + coalesce(sum(e.dead), 0)::bigint + coalesce(sum(m.missing), 0)::bigint as expected,
  coalesce(sum(c.decided), 0)::bigint as decided,
  coalesce(sum(c.errored), 0)::bigint as errored,
  coalesce(sum(c.skipped), 0)::bigint as skipped,
  coalesce(sum(e.pending), 0)::bigint as pending,
  coalesce(sum(e.dead), 0)::bigint as dead,
  coalesce(sum(m.missing), 0)::bigint as missing
from flywheel._validators as d
join flywheel._validator_versions as r on r.validator_id = d.validator_id
left join decided as c on c.version_id = r.version_id
left join enqueued as e on e.version_id = r.version_id
left join missing as m on m.version_id = r.version_id
where d.dropped_at is null
group by d.validator_id, d.name;

comment on view flywheel.coverage is
  'The proof that every validator ran: per validator, over all its versions, expected = decided + errored + skipped + pending + dead + missing. Expected are the rows that arrived while it was enabled and match its filters and sample, and those it was backfilled over.';
comment on column flywheel.coverage.validator is 'Name of the validator.';
comment on column flywheel.coverage.validator_id is 'Identity of the validator.';
comment on column flywheel.coverage.enabled is 'Whether rows that arrive now are checked.';
comment on column flywheel.coverage.expected is 'Verdicts there should be: the sum of the other counts.';
comment on column flywheel.coverage.decided is 'Passed or failed.';
comment on column flywheel.coverage.errored is 'The check itself failed.';
comment on column flywheel.coverage.skipped is 'There was nothing to decide.';
comment on column flywheel.coverage.pending is 'Enqueued and not decided yet.';
comment on column flywheel.coverage.dead is 'Given up after too many attempts.';
comment on column flywheel.coverage.missing is 'Neither written nor enqueued. 0 after flywheel.sweep(); rows written around the triggers, and a span and its trace written by two transactions at once, are the causes.';
