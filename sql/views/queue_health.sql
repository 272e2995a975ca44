create or replace view flywheel.queue_health as
with counted as (
  select j.version_id,
    count(*) filter (where j.state = 'pending') as pending,
    count(*) filter (where j.state = 'pending' and j.leased_until > flywheel.now()) as in_flight,
    count(*) filter (where j.state = 'pending' and j.attempts > 0 and j.run_at > flywheel.now()) as backing_off,
    count(*) filter (where j.state = 'dead') as dead,
    min(j.created_at) filter (where j.state = 'pending') as oldest_at
  from flywheel._jobs as j
  group by j.version_id
),
failed as (
  select distinct on (j.version_id) j.version_id, j.last_error
  from flywheel._jobs as j
  where j.last_error is not null
  order by j.version_id, j.run_at desc
),
alive as (
  select w.info
  from flywheel._workers as w
  where w.stopped_at is null and w.last_seen_at > flywheel.now() - interval '2 minutes'
),
explained as (
  select d.name, v.version, v.language, v.model, c.*, d.priority, p.error as pause, p.resume_at,
    m.name is not null as has_model, m.state as model_state, m.open_until, m.last_error as model_error,
    v.language = 'llm' and flywheel._requires_approval() and not flywheel._is_approved(v) as is_unapproved,
    (
      select count(*) from alive as a
      where coalesce(a.info -> 'kinds' ? flywheel._job_kind(v.language), true) and not coalesce(a.info -> 'refused' ? v.model, false)
    ) as workers,
    (
      select min(a.info -> 'refused' ->> v.model) from alive as a where a.info -> 'refused' ? v.model
    ) as refusal,
    f.last_error
  from counted as c
  left join failed as f on f.version_id = c.version_id
  join flywheel._validator_versions as v on v.version_id = c.version_id
  join flywheel._validators as d on d.validator_id = v.validator_id
  left join flywheel._pauses as p on p.version_id = c.version_id
  left join flywheel.models as m on m.name = v.model and v.language = 'llm'
)
select
  e.name as validator,
  e.version,
  e.language,
  e.model,
  case
    when e.pending = 0 then 'dead_only'
    when e.language = 'llm' and not e.has_model then 'no_model'
    when e.is_unapproved then 'not_approved'
    when e.pause is not null then 'paused'
    when e.model_state in ('open', 'half_open', 'budget_exhausted') then e.model_state
    when e.workers = 0 and e.in_flight = 0 then 'no_worker'
    else 'running'
  end as state,
  e.pending,
  e.in_flight,
  e.backing_off,
  e.dead,
  extract(epoch from flywheel.now() - e.oldest_at)::double precision as oldest_seconds,
  case
    when e.pending = 0 then format('jobs were given up: look at last_error, then select flywheel.retry_dead(%L)', e.name)
    when e.language = 'llm' and not e.has_model then format('there is no model %L: create it, or alter the validator', e.model)
    when e.is_unapproved then format('select flywheel.approve_prompt(%L, %s)', e.name, e.version)
    when e.pause is not null then format('%s; tried again at %s, or at once with select flywheel.resume_validator(%L)', e.pause, to_char(e.resume_at at time zone 'UTC', 'HH24:MI:SS "UTC"'), e.name)
    when e.model_state = 'budget_exhausted' then 'the daily budget of the model is spent: it goes on at midnight UTC, or with a larger one: flywheel.alter_model()'
    when e.model_state = 'open' then format('the model is failing (%s); tried again at %s', e.model_error, to_char(e.open_until at time zone 'UTC', 'HH24:MI:SS "UTC"'))
    when e.model_state = 'half_open' then format('the model was failing (%s); the next claim tries it with one job', e.model_error)
    when e.workers = 0 and e.in_flight = 0 then coalesce('no worker that runs may call this model: ' || e.refusal, 'no worker is running: flywheel-db worker, or call flywheel.work()')
  end as what_to_do,
  e.last_error,
  e.workers,
  e.priority
from explained as e;

comment on view flywheel.queue_health is 'Each validator version with jobs: how many wait, for how long, and if nothing moves, why and what to do.';
comment on column flywheel.queue_health.validator is 'Name of the validator.';
comment on column flywheel.queue_health.version is 'Version of the validator.';
comment on column flywheel.queue_health.language is 'llm, python, sql or knn.';
comment on column flywheel.queue_health.model is 'The model that judges.';
comment on column flywheel.queue_health.state is 'running; no_worker, paused (wrongly configured), not_approved, no_model, open or half_open (the model''s circuit breaker), budget_exhausted; dead_only.';
comment on column flywheel.queue_health.pending is 'Jobs that are not done.';
comment on column flywheel.queue_health.in_flight is 'Of these, in the hands of a worker.';
comment on column flywheel.queue_health.backing_off is 'Of these, waiting after a failure.';
comment on column flywheel.queue_health.dead is 'Jobs that have used up their attempts; retry_dead() makes them pending.';
comment on column flywheel.queue_health.oldest_seconds is 'Age of the oldest pending job, in seconds.';
comment on column flywheel.queue_health.what_to_do is 'What stands in the way and what to do; null if nothing does.';
comment on column flywheel.queue_health.last_error is 'The latest failure of a job that is still there.';
comment on column flywheel.queue_health.workers is 'Workers that are alive and take such jobs.';
comment on column flywheel.queue_health.priority is 'Priority of the validator.';
