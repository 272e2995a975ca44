create or replace view flywheel.workers as
select
  w.worker_id,
  w.name,
  case
    when w.stopped_at is not null then 'stopped'
    when w.last_seen_at > flywheel.now() - interval '2 minutes' then 'alive'
    else 'lost'
  end as state,
  w.started_at,
  w.last_seen_at,
  w.stopped_at,
  w.info -> 'kinds' as kinds,
  case when w.info ->> 'concurrency' ~ '^\d{1,9}$' then (w.info ->> 'concurrency')::integer end as concurrency,
  w.info ->> 'release' as release,
  w.info ->> 'host' as host,
  w.info -> 'refused' as refused,
  w.info
from flywheel._workers as w;

comment on view flywheel.workers is 'Workers that have been seen, and what each says of itself.';
comment on column flywheel.workers.worker_id is 'Identity of the process.';
comment on column flywheel.workers.name is 'Its name; two may share one.';
comment on column flywheel.workers.state is 'alive, stopped, or lost: not seen for two minutes.';
comment on column flywheel.workers.started_at is 'When it started.';
comment on column flywheel.workers.last_seen_at is 'Its latest sign of life.';
comment on column flywheel.workers.stopped_at is 'When it said good-bye.';
comment on column flywheel.workers.kinds is 'Kinds of jobs it takes.';
comment on column flywheel.workers.concurrency is 'Jobs it does at once.';
comment on column flywheel.workers.release is 'Its release of flywheel-db.';
comment on column flywheel.workers.host is 'Where it runs.';
comment on column flywheel.workers.refused is 'Models it does not call, each with the reason.';
comment on column flywheel.workers.info is 'All it says of itself.';
