-- Metrics over verdicts of judges are lazy: they show what has been decided, and an interval for the
-- rest. request_metric() has the rest decided.

create or replace function flywheel.rate_interval(
  passed bigint, decided bigint, expected bigint, out rate double precision, out low double precision, out high double precision
)
language sql
immutable
parallel safe
begin atomic
  -- Wilson (1927), eq. 3, with the sample size that has the variance of drawing without replacement:
  -- n (N - 1) / (N - n). Where all are decided there is nothing left to guess.
  select s.p,
    case
      when s.p is null then 0
      when decided >= expected then s.p
      -- Without what rounding would leave.
      when passed = 0 then 0
      else greatest(0, ((s.p + s.z * s.z / (2 * s.n)) - s.z * sqrt(s.p * (1 - s.p) / s.n + s.z * s.z / (4 * s.n * s.n))) / (1 + s.z * s.z / s.n))
    end,
    case
      when s.p is null then 1
      when decided >= expected then s.p
      when passed = decided then 1
      else least(1, ((s.p + s.z * s.z / (2 * s.n)) + s.z * sqrt(s.p * (1 - s.p) / s.n + s.z * s.z / (4 * s.n * s.n))) / (1 + s.z * s.z / s.n))
    end
  from (
    select 1.959963984540054::double precision as z,
      passed::double precision / nullif(decided, 0) as p,
      decided * (expected - 1)::double precision / nullif(expected - decided, 0) as n
  ) as s;
end;

comment on function flywheel.rate_interval(bigint, bigint, bigint) is
  'Share that passes among the expected ones when only some are decided: the rate among those, and the 95 % interval for all of them. Exact where all are decided, 0 to 1 where none is. For queries of metrics over verdicts of judges that are sampled or pending.';

create or replace function flywheel.request_metric(
  name text, since timestamptz default '-infinity', max_jobs integer default 10000
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_metric flywheel._metrics := flywheel._find_metric(name);
  v_version flywheel._validator_versions;
  v_validators text[];
  v_reads_verdicts boolean;
  v_count bigint;
  v_total bigint := 0;
begin
  if since is null or max_jobs is null or max_jobs < 1 then
    raise exception 'there is nothing to request with these arguments'
      using errcode = 'LF002', hint = 'Give a time and a positive number of jobs, or leave them out.';
  end if;
  -- With the metrics that it reads.
  with recursive read as (
    select m.metric_id, m.validators, m.depends_on from flywheel._metrics as m where m.metric_id = v_metric.metric_id
    union
    select m.metric_id, m.validators, m.depends_on
    from read as r
    join flywheel._metrics as m on 'flywheel.' || m.name = any (r.depends_on)
  )
  select coalesce(array_agg(distinct n.name) filter (where n.name is not null), '{}'),
    bool_or(o.name ~ '^flywheel\.(_?verdicts|failures|coverage|cluster_failures|validator_associations)\M')
  into v_validators, v_reads_verdicts
  from read as r
  left join unnest(r.validators) as n (name) on true
  left join unnest(r.depends_on) as o (name) on true;
  for v_version in
    select v.*
    from flywheel._validator_versions as v
    join flywheel._validators as d on d.validator_id = v.validator_id
    where upper_inf(v.active_generations)
      and flywheel._mode_of(v) = 'queued'
      and (
        d.name = any (v_validators)
        -- Whoever names none means all.
        or v_validators = '{}' and v_reads_verdicts
      )
    order by v.version_id
  loop
    -- Sampled or not: the metric asks for all. The newest first, which are asked about most.
    execute format(
      $jobs$
      insert into flywheel._jobs (trace_id, span_id, version_id, revision, created_at, run_at, priority)
      select g.trace_id, g.span_id, $1, g.revision, flywheel.now(), flywheel.now(), 0
      from flywheel._targets as g
      join flywheel.traces as t on t.trace_id = g.trace_id
      where g.subject = $2
        and ($3 is null or g.pipeline = $3) and ($4 is null or g.node = $4) and ($5 is null or g.kind = $5)
        and t.received_at >= $6
        and not exists (
          select from flywheel._verdicts as v
          where v.trace_id = g.trace_id and v.span_id = g.span_id and v.version_id = $1 and v.revision = g.revision
        )
        and not exists (
          select from flywheel._jobs as j
          where j.trace_id = g.trace_id and j.span_id = g.span_id and j.version_id = $1 and j.revision = g.revision
        )
      order by t.received_at desc, g.trace_id desc, g.span_id desc
      limit $7$jobs$
    ) || flywheel._replace_jobs()
    using v_version.version_id, v_version.subject, v_version.pipeline, v_version.node, v_version.kind, since, max_jobs - v_total;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    exit when v_total >= max_jobs;
  end loop;
  return v_total;
end
$$;

comment on function flywheel.request_metric(text, timestamptz, integer) is
  'Has what a metric over verdicts of queued validators still lacks decided: enqueues up to max_jobs evaluations of the validators that it names (of all, if it names none), the newest traces first, beyond their samples, too. Those that are decided or pending are left as they are. Returns how many were enqueued. A worker or flywheel.work() does them.';
