create or replace view flywheel.jobs as
select
  j.trace_id,
  nullif(j.span_id, flywheel._no_span()) as span_id,
  j.revision,
  d.name as validator,
  r.version,
  r.language,
  j.state,
  j.created_at,
  j.attempts::integer as attempts,
  j.run_at,
  j.leased_until,
  j.worker,
  j.error_class,
  j.last_error,
  j.priority::integer as priority
from flywheel._jobs as j
join flywheel._validator_versions as r on r.version_id = j.version_id
join flywheel._validators as d on d.validator_id = r.validator_id;

comment on view flywheel.jobs is 'Verdicts that queued validators owe.';
comment on column flywheel.jobs.trace_id is 'The trace.';
comment on column flywheel.jobs.span_id is 'The span; null when the subject is the trace.';
comment on column flywheel.jobs.revision is 'Revision of the trace or span.';
comment on column flywheel.jobs.validator is 'Name of the validator.';
comment on column flywheel.jobs.version is 'Version of the validator.';
comment on column flywheel.jobs.language is 'Language of that version.';
comment on column flywheel.jobs.state is 'pending or dead.';
comment on column flywheel.jobs.created_at is 'When the job was enqueued.';
comment on column flywheel.jobs.attempts is 'Claims so far that count, a present one included.';
comment on column flywheel.jobs.run_at is 'Not to be claimed before.';
comment on column flywheel.jobs.leased_until is 'When the present claim ends by itself; null while nobody holds the job.';
comment on column flywheel.jobs.worker is 'Who claimed it last.';
comment on column flywheel.jobs.error_class is 'Class of its latest failure: transient, permanent or configuration.';
comment on column flywheel.jobs.last_error is 'Its latest failure.';
comment on column flywheel.jobs.priority is '0 for what has just arrived, 1 for what a sweep or a backfill has enqueued.';
