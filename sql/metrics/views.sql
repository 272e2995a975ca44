create or replace view flywheel.metrics as
select
  m.name,
  m.storage,
  case when v.view_oid is null then 'broken' when not m.is_built then 'building' else 'ready' end as state,
  case
    when v.view_oid is null then 'the view is gone: it was dropped together with something it read'
    else m.problem
  end as problem,
  m.refresh_every,
  m.refreshed_at,
  case when m.storage = 'materialized' then flywheel.now() - m.refreshed_at else interval '0' end as staleness,
  m.is_builtin,
  m.description,
  m.columns,
  m.depends_on,
  m.validators,
  m.query,
  m.created_at,
  m.created_by
from flywheel._metrics as m
cross join lateral (select to_regclass(format('flywheel.%I', m.name)) as view_oid) as v;

comment on view flywheel.metrics is 'The metrics: what each computes and how it is kept. Each is read as the view flywheel.<name>.';
comment on column flywheel.metrics.name is 'Name of the metric and of its view.';
comment on column flywheel.metrics.storage is 'view (computed when read), materialized (stored and refreshed) or incremental (kept current).';
comment on column flywheel.metrics.state is 'ready; building (an incremental metric that is read as a view until it has been filled); or broken.';
comment on column flywheel.metrics.problem is 'What went wrong, if anything.';
comment on column flywheel.metrics.refresh_every is 'How old the rows of a materialized metric may get.';
comment on column flywheel.metrics.refreshed_at is 'When the rows of a materialized metric were computed, or an incremental one filled.';
comment on column flywheel.metrics.staleness is 'How old the rows are that are read now; zero unless materialized.';
comment on column flywheel.metrics.is_builtin is 'Whether it came with flywheel-db.';
comment on column flywheel.metrics.description is 'What it tells.';
comment on column flywheel.metrics.columns is 'Names of its columns.';
comment on column flywheel.metrics.depends_on is 'Tables, views and functions its query names.';
comment on column flywheel.metrics.validators is 'Validators whose names stand in its query.';
comment on column flywheel.metrics.query is 'Its SELECT.';
comment on column flywheel.metrics.created_at is 'When it was created.';
comment on column flywheel.metrics.created_by is 'Role that created it.';

-- Milliseconds of processor time per second that each storage would cost at the present rates; null
-- where it is not possible. A view that is not incremental yet is taken to read as fast as its rows
-- can be counted, a microsecond each and one millisecond, and to cost 5 ms per 1,000 rows written.
create or replace view flywheel.metric_advice as
with measured as (
  select m.*,
    c.reads,
    greatest(extract(epoch from flywheel.now() - m.created_at), 1) as seconds,
    case m.storage
      when 'incremental' then (
        select sum(pg_total_relation_size(t.oid))::bigint
        from flywheel._stream_tables(m.stream_id) as t
      )
      when 'materialized' then pg_total_relation_size(to_regclass('flywheel.' || flywheel._metric_table(m.metric_id)))
      else 0
    end as size_bytes,
    w.written
  from flywheel._metrics as m
  cross join lateral (
    select coalesce(pg_stat_get_numscans(to_regclass('flywheel.' || flywheel._reads_table(m.metric_id))), 0) as reads
  ) as c
  left join lateral (
    select sum(pg_stat_get_tuples_inserted(b.oid) + pg_stat_get_tuples_updated(b.oid) + pg_stat_get_tuples_deleted(b.oid)) as written
    from flywheel._facts() as f
    join pg_class as b on b.relnamespace = 'flywheel'::regnamespace and b.relname = f.base
    where format('flywheel.%s', f.name) = any (m.depends_on)
  ) as w on true
), costs as (
  select m.*,
    m.reads / m.seconds * m.plain_ms as cost_view,
    case when m.refusal is null then
      m.reads / m.seconds * case m.storage when 'incremental' then m.read_ms else 1 + coalesce(m.rows, 0) / 1000.0 end
        + coalesce(m.written / m.seconds / 1000 * coalesce(m.write_ms, 5), 0)
    end as cost_incremental,
    -- As often as keeps refreshing below 1 % of a processor, but not more often than every second.
    make_interval(secs => greatest(1, ceil(m.plain_ms / 10))) as affordable_every
  from measured as m
), advised as (
  select c.*,
    case
      when c.plain_ms is null then null
      -- Fast, or read less than once an hour.
      when c.plain_ms <= 20 and c.cost_view <= 10 or c.seconds > 3600 and c.reads < c.seconds / 3600 then 'view'
      when c.refusal is not null or c.storage = 'incremental' and c.read_ms >= c.plain_ms then 'materialized'
      when c.cost_incremental <= c.cost_view or c.plain_ms > 20 then 'incremental'
      else 'view'
    end as recommended
  from costs as c
)
select
  a.name,
  a.storage,
  a.reads,
  round(a.reads / a.seconds * 3600, 1) as reads_per_hour,
  a.read_ms,
  a.plain_ms,
  a.write_ms as write_ms_per_1000_rows,
  case a.storage when 'materialized' then flywheel.now() - a.refreshed_at else interval '0' end as staleness,
  a.size_bytes,
  a.recommended,
  case
    when a.recommended is null then 'not measured yet: flywheel.refresh_metrics() measures every metric once an hour'
    when a.recommended = 'view' then format(
      'its query takes %s ms and is read %s times an hour: keeping the result would save less than it costs',
      round(a.plain_ms::numeric, 1), round((a.reads / a.seconds * 3600)::numeric, 1)
    )
    when a.recommended = 'incremental' then format(
      'its query takes %s ms from the rows%s; kept current it costs %s ms per 1,000 rows written',
      round(a.plain_ms::numeric, 1),
      case a.storage when 'incremental' then format(' and %s ms as it is kept', round(a.read_ms::numeric, 1)) end,
      coalesce(round(a.write_ms::numeric, 1)::text, 'a few')
    )
    else format(
      'its query takes %s ms and %s: refresh_every => %L keeps the cost below 1 %% of a processor',
      round(a.plain_ms::numeric, 1),
      coalesce(
        'cannot be incremental (' || a.refusal || ')', format('is no faster incremental, %s ms', round(a.read_ms::numeric, 1))
      ),
      a.affordable_every
    )
  end as why,
  a.measured_at
from advised as a;

comment on view flywheel.metric_advice is
  'What each metric costs, measured in the background, and the storage that this speaks for. Follow it with alter_metric(name, storage => ...).';
comment on column flywheel.metric_advice.name is 'Name of the metric.';
comment on column flywheel.metric_advice.storage is 'How it is kept now.';
comment on column flywheel.metric_advice.reads is 'How often it has been read since the server''s statistics began.';
comment on column flywheel.metric_advice.reads_per_hour is 'The same per hour since the metric was created.';
comment on column flywheel.metric_advice.read_ms is 'Milliseconds that reading all of it takes as it is kept now.';
comment on column flywheel.metric_advice.plain_ms is 'Milliseconds that its query takes over the rows themselves.';
comment on column flywheel.metric_advice.write_ms_per_1000_rows is 'Incremental: milliseconds that the statements which append its deltas spend on 1,000 rows.';
comment on column flywheel.metric_advice.staleness is 'How old the rows are that are read now.';
comment on column flywheel.metric_advice.size_bytes is 'Disk that its storage takes; metrics that share a stream share it.';
comment on column flywheel.metric_advice.recommended is 'The storage that the measurements speak for: view if its query is fast or hardly read, else incremental if it can be, else materialized.';
comment on column flywheel.metric_advice.why is 'The reason, with the numbers.';
comment on column flywheel.metric_advice.measured_at is 'When it was measured.';
