-- Who may do what. Re-applied as a whole: everything is taken away from PUBLIC first, then each
-- role is given what its kind of person needs. docs/reference/privileges.md shows the result.

revoke all on schema flywheel from public;
revoke all on all tables in schema flywheel from public;

-- pgvector may live in the schema too, and its functions stay everyone's.
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace
      and not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
      )
  loop
    execute pg_catalog.format('revoke all on routine %s from public', v_function);
  end loop;
end
$$;

grant usage on schema flywheel
  to flywheel_admin, flywheel_writer, flywheel_labeler, flywheel_reader, flywheel_worker, flywheel_validator, flywheel_metric;

-- The application: writes traces, asks the gate. What the database sets is not granted.
grant select on flywheel.traces, flywheel.spans to flywheel_writer;
grant insert (
  trace_id, pipeline, variant, environment, release, session_id, user_id, input, output, status,
  started_at, ended_at, attributes
) on flywheel.traces to flywheel_writer;
grant update (
  pipeline, variant, environment, release, session_id, user_id, input, output, status,
  started_at, ended_at, attributes
) on flywheel.traces to flywheel_writer;
grant insert (
  trace_id, span_id, parent_span_id, node, kind, input, output, status, started_at, ended_at,
  model, input_tokens, output_tokens, cost_usd, attributes
) on flywheel.spans to flywheel_writer;
grant update (
  parent_span_id, node, kind, input, output, status, started_at, ended_at,
  model, input_tokens, output_tokens, cost_usd, attributes
) on flywheel.spans to flywheel_writer;
grant execute on function
  flywheel.check_input(text, text, text, jsonb, boolean),
  flywheel.input_ok(text, text, text, jsonb, boolean),
  flywheel.import_progress(text, text),
  flywheel.record_import(text, text, bigint, bigint)
  to flywheel_writer;

-- It puts the best past examples into its own prompts.
grant execute on function
  flywheel.embed(text),
  flywheel.similar_corrections(text, integer, text, text, interval, double precision, uuid, text),
  flywheel.similar_corrections_by_vector(vector, integer, text, text, interval, double precision, uuid, text),
  flywheel.prompt_examples(text, text, integer, text, text, interval, double precision, uuid, text)
  to flywheel_writer, flywheel_reader, flywheel_labeler;
grant execute on function
  flywheel.few_shot(text, text, integer, interval, double precision, double precision, uuid, text),
  flywheel.few_shot_by_vector(text, vector, integer, interval, double precision, double precision, uuid, text),
  flywheel.explain_few_shot(text, text, integer, interval, double precision, double precision, uuid, text)
  to flywheel_reader, flywheel_labeler;

-- Column defaults run as whoever inserts.
grant execute on function flywheel.now(), flywheel.uuidv7(), flywheel._generation()
  to flywheel_writer, flywheel_reader, flywheel_labeler, flywheel_validator;

-- Readers and labelers see everything that is public.
grant select on
  flywheel.traces, flywheel.spans, flywheel.verdicts, flywheel.failures, flywheel.coverage,
  flywheel.validators, flywheel.jobs, flywheel.builtin_validators,
  flywheel.models, flywheel.queue_health, flywheel.runs, flywheel.workers,
  flywheel.current_labels, flywheel.corrections, flywheel.metrics, flywheel.metric_advice,
  flywheel.examples, flywheel.embedders, flywheel.index_health, flywheel.reference_texts,
  flywheel.schedules, flywheel.retention
  to flywheel_reader, flywheel_labeler;

-- A view lends its owner's rights on tables, but not on the functions it calls.
grant execute on function
  flywheel._no_span(), flywheel._is_sampled(uuid, double precision), flywheel._wilson_interval(bigint, bigint),
  flywheel._job_kind(text),
  flywheel._builtins(), flywheel._requires_approval(), flywheel._is_approved(flywheel._validator_versions),
  flywheel._is_switched_on(text), flywheel._is_searched(flywheel._vector_segments), flywheel._part_counts(flywheel._vector_segments),
  flywheel._tasks(), flywheel._expiry(interval),
  flywheel._cached_tokens(jsonb),
  flywheel._phi(bigint, bigint, bigint, bigint), flywheel._correlation_interval(double precision, bigint)
  to flywheel_reader, flywheel_labeler;
grant execute on function
  flywheel.validator_associations(text, text, timestamptz),
  flywheel.cluster_failures(text, timestamptz, integer, integer)
  to flywheel_reader, flywheel_labeler;

-- What incremental metrics are read with, and what a query may aggregate with.
grant execute on function
  flywheel._add(bigint),
  flywheel._variance_of_sums(numeric, numeric, numeric, boolean),
  flywheel._special_or(numeric, numeric, numeric, numeric, boolean),
  flywheel._quantile_of_buckets(integer[], bigint[], double precision),
  flywheel._quantile_value(integer),
  flywheel._quantile_bucket(double precision), flywheel._milliseconds(timestamptz, timestamptz),
  flywheel._quantile_final(double precision[], double precision),
  flywheel.quantile(double precision, double precision),
  flywheel._distinct_count_of_buckets(integer[], bigint[]),
  flywheel._distinct_estimate(double precision, bigint),
  flywheel._distinct_bucket(anyelement),
  flywheel._distinct_add(bytea, anyelement),
  flywheel._distinct_final(bytea),
  flywheel.distinct_count(anyelement),
  flywheel.rate_interval(bigint, bigint, bigint),
  -- What metric_advice calls.
  flywheel._reads_table(integer),
  flywheel._metric_table(integer),
  flywheel._facts(),
  flywheel._stream_tables(integer)
  to flywheel_reader, flywheel_labeler;

-- Workers: the queue, and what they must know of the models. They see the texts they are given, and
-- no table.
grant execute on function
  flywheel.claim_jobs(text, text[], integer, interval, text[]),
  flywheel.complete_jobs(text, jsonb),
  flywheel.fail_job(text, jsonb, text, text, interval, jsonb),
  flywheel.extend_lease(text, jsonb, interval),
  flywheel.release_jobs(text, jsonb),
  flywheel.run_sql_jobs(text, jsonb),
  flywheel.purge(integer),
  flywheel.has_jobs(text[], text[]),
  flywheel._has_python(),
  flywheel.start_worker(text, integer, jsonb),
  flywheel.worker_alive(bigint, jsonb),
  flywheel.stop_worker(bigint),
  flywheel.python_validator(integer),
  flywheel.claim_embeddings(text, text[], integer, interval, text[]),
  flywheel.complete_embeddings(text, jsonb, text[], jsonb),
  flywheel.fail_embeddings(text, jsonb, text, text, interval, jsonb),
  flywheel.extend_embeddings(text, jsonb, interval),
  flywheel.release_embeddings(text, jsonb),
  flywheel.embed_texts(double precision),
  flywheel.index_vectors(double precision),
  flywheel.measure_index(integer, integer),
  flywheel.run_schedules(double precision, integer),
  flywheel._tasks(),
  flywheel.now(),
  flywheel._requires_approval(),
  flywheel._is_switched_on(text),
  flywheel._is_searched(flywheel._vector_segments),
  flywheel._part_counts(flywheel._vector_segments),
  flywheel._is_approved(flywheel._validator_versions)
  to flywheel_worker;
grant execute on procedure flywheel.work(double precision, integer) to flywheel_worker;
grant execute on function
  flywheel.fold_metrics(double precision),
  flywheel.refresh_metrics(double precision),
  flywheel.run_metric_tasks(double precision)
  to flywheel_worker;
grant select on
  flywheel.models, flywheel.queue_health, flywheel.jobs, flywheel.workers, flywheel.embedders, flywheel.index_health,
  flywheel.schedules
  to flywheel_worker;
grant execute on function flywheel._no_span(), flywheel._job_kind(text) to flywheel_worker;

-- The labeler: labels and corrects, and changes no label.
grant execute on function
  flywheel.label(
    uuid, text, boolean, text, text, uuid, text, double precision, text, double precision, text, integer, text, integer
  ),
  flywheel.withdraw_label(bigint, text)
  to flywheel_labeler;
-- Who labels can take an example away; approving one is the engineer's.
grant execute on function flywheel.forget_example(bigint, text) to flywheel_labeler;

-- The AI engineer: defines validators, reads everything, removes data.
grant delete, truncate on flywheel.traces, flywheel.spans to flywheel_admin;
grant execute on function
  flywheel.create_validator(
    text, text, text, text, text, text, text, text, text, text, double precision, jsonb, text, text, text,
    integer, text, interval, boolean, jsonb
  ),
  flywheel._create_python_code(text),
  flywheel._has_python(),
  flywheel._create_validator(text, flywheel._validator_versions, boolean),
  flywheel.alter_validator(
    text, text, jsonb, text, text, text, text, text, text, text, text, double precision, text, integer, text,
    interval, text[], jsonb
  ),
  flywheel._alter_validator(text, flywheel._validator_versions, text[]),
  flywheel.enable_builtin(
    text, text, text, jsonb, text, text, text, text, text, text, double precision, text, interval, boolean, jsonb
  ),
  flywheel.enable_validator(text),
  flywheel.disable_validator(text),
  flywheel.drop_validator(text, boolean),
  flywheel.test_validator(text, integer),
  flywheel.evaluate(text, jsonb),
  flywheel.add_references(text, text[]),
  flywheel.remove_references(text, text[]),
  flywheel.calibrate_knn(text, double precision),
  flywheel.explain_validators(text),
  flywheel.create_model(
    text, text, text, text, text, text, jsonb, text, double precision, integer, integer, integer, numeric,
    numeric, numeric, numeric, text
  ),
  flywheel.alter_model(
    text, text, text, text, text, text, jsonb, text, double precision, integer, integer, integer, numeric, text, text[]
  ),
  flywheel.drop_model(text),
  flywheel.set_price(text, numeric, numeric, numeric, timestamptz),
  flywheel.preview_prompts(text, integer),
  flywheel.approve_prompt(text, integer, text),
  flywheel.approve_example(bigint, text),
  flywheel.create_embedder(text, text, integer, text, boolean, integer),
  flywheel.use_embedder(text),
  flywheel.drop_embedder(text),
  flywheel.retry_embeddings(text),
  flywheel.set_index_policy(text, double precision),
  flywheel.retry_dead(text, integer),
  flywheel.prioritize_validator(text, integer),
  flywheel.resume_validator(text),
  flywheel.sweep(integer),
  flywheel._backfill_batch(text, timestamptz, timestamptz, integer, timestamptz, uuid, uuid),
  flywheel.create_metric(text, text, text, interval, text, jsonb),
  flywheel.alter_metric(text, text, interval, text, text, jsonb, text[]),
  flywheel.drop_metric(text),
  flywheel.refresh_metric(text),
  flywheel.request_metric(text, timestamptz, integer),
  flywheel.explain_metric(text),
  flywheel.create_schedule(text, text, interval, text, boolean),
  flywheel.alter_schedule(text, interval, text),
  flywheel.drop_schedule(text),
  flywheel.enable_schedule(text),
  flywheel.disable_schedule(text),
  flywheel.run_schedule(text, double precision),
  flywheel.set_retention(text, interval, boolean, boolean),
  flywheel.drop_retention(text),
  flywheel.apply_retention(integer),
  flywheel.forget_trace(uuid),
  flywheel.forget_user(text)
  to flywheel_admin;
grant execute on procedure flywheel.backfill(text, timestamptz, timestamptz, integer) to flywheel_admin;
grant execute on procedure flywheel.enforce_retention(integer, double precision) to flywheel_admin;

-- The role validators run as: reads what they judge, writes what they find.
grant select on
  flywheel.traces, flywheel.spans, flywheel._dimensions, flywheel._validators, flywheel._validator_versions,
  flywheel._verdicts, flywheel._jobs, flywheel._breaches
  to flywheel_validator;
grant insert, update, delete on flywheel._verdicts, flywheel._jobs to flywheel_validator;
grant insert on flywheel._arrivals to flywheel_validator;
grant update (generation) on flywheel.traces to flywheel_validator;
grant update (generation) on flywheel.spans to flywheel_validator;
grant execute on function
  flywheel._no_span(),
  flywheel._dimension_id(text, text, text, text, text, timestamptz),
  flywheel._add_dimension(bigint, text, text, text, text, text, timestamptz),
  flywheel._is_sampled(uuid, double precision),
  flywheel._status_of(integer),
  flywheel._enforce(flywheel._outcome, text, text, text, text, uuid, uuid, text),
  flywheel._subject_columns(text),
  flywheel._cast_to(text),
  flywheel._subject_rows(text, text, text),
  flywheel._stored_rows(text),
  flywheel._verdict_query(integer[], text, text),
  flywheel._validator_element(flywheel._validator_versions, text, boolean, text),
  flywheel._version_filters(flywheel._validator_versions, text, text),
  flywheel._dimension_condition(text),
  flywheel._call_arguments(text[], text, jsonb),
  flywheel._insert_verdicts(text, text, boolean),
  flywheel._insert_jobs(integer[], text, text, boolean, integer),
  flywheel._has_python(),
  flywheel._mode_of(flywheel._validator_versions),
  flywheel._default_budget(),
  flywheel._builtins(),
  flywheel._python_column(text, text),
  flywheel._python_spec(integer[], text[]),
  flywheel._python_query(integer[], text, text),
  flywheel._call_python(text, text[], integer, text[], integer[], text),
  flywheel._python_failure(integer, text[], integer[], integer[], text),
  flywheel._record_breach(integer, text),
  flywheel._attack_score(text),
  flywheel._knn_query(integer[], text, text),
  flywheel._hashed_part(text),
  flywheel._call_knn(integer, text[], text[], uuid[]),
  flywheel._json_problem(text, boolean),
  flywheel._replace_verdicts(),
  flywheel._replace_jobs()
  to flywheel_validator;

-- The role that owns the metrics' views. It reads what a reader reads, and what the built-in ones need.
grant create on schema flywheel to flywheel_metric;
grant select on
  flywheel._verdicts, flywheel._dimensions, flywheel._dimension_values, flywheel._validators, flywheel._validator_versions,
  flywheel._newest_versions,
  flywheel._label_heads, flywheel._labels,
  flywheel._metrics
  to flywheel_metric;
grant select (stream_id, state, keeps_rollups) on flywheel._metric_streams to flywheel_metric;
grant execute on function
  flywheel._index_metric_table(text),
  flywheel._metric_table_query(text),
  flywheel._time_query(text),
  flywheel._quantile_bucket(double precision), flywheel._milliseconds(timestamptz, timestamptz),
  flywheel._distinct_bucket(anyelement)
  to flywheel_metric;

-- Blanket revocation above also hit what is made per validator.
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace and p.proname ~ '^(_(check|score|reason|try|python)_\d+|_run_python|_boot_python|_load_python_library|_load_python_bytecode)$'
  loop
    execute pg_catalog.format('grant execute on function %s to flywheel_validator', v_function);
  end loop;

  -- The compiler asks what a Python validator reads; that compiles code and runs none. Nor does a vector.
  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace and p.proname in ('_describe_python', '_describe_builtin', '_hash_weights_in_python', '_boot_python', '_load_python_library', '_load_python_bytecode')
  loop
    execute pg_catalog.format(
      'grant execute on function %s to %s', v_function,
      (select n.nspowner::regrole from pg_catalog.pg_namespace as n where n.nspname = 'flywheel')
    );
  end loop;

  -- What flywheel.work() consists of, where there is Python. Loading its modules runs none of a user's.
  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace
      and p.proname in ('_work', '_allowed_hosts', '_boot_python', '_load_python_library', '_load_python_bytecode')
  loop
    execute pg_catalog.format('grant execute on routine %s to flywheel_worker', v_function);
  end loop;

  -- What runs users' expressions runs as the role that has nothing else. Giving a function to a
  -- role asks that the role may create in the schema, which it may for just this moment.
  grant create on schema flywheel to flywheel_validator;
  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace
      and p.proname = any (array[
        '_tg_traces__validate_inserted', '_tg_traces__validate_updated',
        '_tg_spans__validate_inserted', '_tg_spans__validate_updated',
        '_gate', '_plan_expression', '_validate_targets', '_enqueue_targets', '_revalidate_spans', '_try_version', '_try_rows'
      ])
      and p.proowner <> 'flywheel_validator'::regrole
  loop
    execute pg_catalog.format('alter function %s owner to flywheel_validator', v_function);
  end loop;
  revoke create on schema flywheel from flywheel_validator;

  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace
      and p.proname = any (array[
        '_make_metric_view', '_drop_metric_relation', '_plan_metric', '_make_metric_table', '_index_metric_table',
        '_refresh_metric_table', '_comment_metric', '_time_query', '_make_plain_function',
        '_tg_traces__emit_inserted', '_tg_traces__emit_updated', '_tg_traces__emit_deleted',
        '_tg_spans__emit_inserted', '_tg_spans__emit_updated', '_tg_spans__emit_deleted',
        '_tg_verdicts__emit_inserted', '_tg_verdicts__emit_updated', '_tg_verdicts__emit_deleted',
        '_tg_label_heads__emit_inserted', '_tg_label_heads__emit_updated', '_tg_label_heads__emit_deleted'
      ] || array(select m.proname from pg_catalog.pg_proc as m where m.proname ~ '^_metric_\d+_plain$'))
      and p.proowner <> 'flywheel_metric'::regrole
  loop
    execute pg_catalog.format('alter function %s owner to flywheel_metric', v_function);
  end loop;
  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace and p.proname ~ '^_stream_\d+_e\d+(_raw)?$'
  loop
    execute pg_catalog.format('grant execute on function %s to flywheel_metric', v_function);
  end loop;
  for v_function in
    select p.oid
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace and p.proname ~ '^_metric_\d+_plain$'
  loop
    execute pg_catalog.format('grant execute on function %s to flywheel_reader, flywheel_labeler', v_function);
  end loop;
end
$$;
