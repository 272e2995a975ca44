-- Embeddings, the index of each store, and examples for prompts. New tables only. The vectors
-- themselves are in tables that are made for each embedder (sql/embeddings/1_stores.sql).

-- PL/pgSQL finds pgvector's type by this name in whatever schema the extension is.
do $$
begin
  execute (
    select format('create domain flywheel._vector as %I.vector', n.nspname)
    from pg_extension as e
    join pg_namespace as n on n.oid = e.extnamespace
    where e.extname = 'vector'
  );
end
$$;

comment on domain flywheel._vector is 'A vector of pgvector, wherever the extension is installed.';

create table flywheel._embedders (
  embedder_id integer generated always as identity,
  name text not null,
  provider text not null,
  dimensions integer not null,
  model text,
  is_half boolean not null default false,
  max_chars integer not null default 8000,
  state text not null default 'ready',
  backfilled_to uuid,
  created_at timestamptz not null default flywheel.now(),
  activated_at timestamptz,
  retired_at timestamptz,
  constraint _embedders_pkey primary key (embedder_id),
  constraint _embedders_name_key unique (name),
  constraint name_is_not_blank check (btrim(name) <> '' and length(name) <= 200),
  constraint provider_is_known check (provider in ('hash', 'openai', 'local')),
  constraint state_is_known check (state in ('ready', 'building', 'active')),
  constraint dimensions_fit_an_index check (dimensions between 1 and case when is_half then 4000 else 2000 end),
  constraint max_chars_is_positive check (max_chars between 100 and 1000000),
  constraint hash_needs_no_model check ((provider = 'hash') = (model is null))
);

create unique index _embedders_active_key on flywheel._embedders (state) where state = 'active';
create unique index _embedders_building_key on flywheel._embedders (state) where state = 'building';

comment on table flywheel._embedders is 'What turns texts into vectors. One is active; another may be building its index beside it.';
comment on column flywheel._embedders.embedder_id is 'Identity of the embedder; its tables carry it in their names.';
comment on column flywheel._embedders.name is 'Its name.';
comment on column flywheel._embedders.provider is 'hash (in the database), openai (any compatible endpoint) or local (a model in the worker).';
comment on column flywheel._embedders.dimensions is 'Length of its vectors.';
comment on column flywheel._embedders.model is 'openai: name of a model of _models; local: name or folder of a model of sentence-transformers.';
comment on column flywheel._embedders.is_half is 'Whether its vectors are stored in half precision.';
comment on column flywheel._embedders.max_chars is 'Of a longer text the beginning and the end are embedded.';
comment on column flywheel._embedders.state is 'ready (made, not used), building (its index is being filled) or active.';
comment on column flywheel._embedders.backfilled_to is 'While building: traces up to this id have been seen to.';
comment on column flywheel._embedders.created_at is 'When it was created.';
comment on column flywheel._embedders.activated_at is 'When it became the active one.';
comment on column flywheel._embedders.retired_at is 'When another took its place; its vectors are removed a little later.';

-- Apart from _embedders, whose rows the upkeep keeps locked while it enqueues.
create table flywheel._embedder_states (
  embedder_id integer not null,
  failures integer not null default 0,
  pauses integer not null default 0,
  paused_until timestamptz,
  probe_token bigint,
  last_error text,
  constraint _embedder_states_pkey primary key (embedder_id),
  constraint _embedder_states_embedder_id_fkey foreign key (embedder_id)
    references flywheel._embedders on delete cascade
) with (fillfactor = 20);

comment on table flywheel._embedder_states is 'How embedders that are not in the database are doing.';
comment on column flywheel._embedder_states.embedder_id is 'The embedder.';
comment on column flywheel._embedder_states.failures is 'Failures since its last success.';
comment on column flywheel._embedder_states.pauses is 'How often it was paused since its last success.';
comment on column flywheel._embedder_states.paused_until is 'No claim of its texts before; after it, one that finds out.';
comment on column flywheel._embedder_states.probe_token is 'Token of the claim that finds out.';
comment on column flywheel._embedder_states.last_error is 'Its latest failure, until it succeeds.';

-- Each store of an embedder is a table partitioned by segment. New vectors go to the open segment,
-- which is searched exactly; a closed one has an HNSW index.
create table flywheel._vector_segments (
  part integer generated always as identity,
  embedder_id integer not null,
  store text not null,
  first_segment integer not null,
  last_segment integer not null,
  state text not null default 'open',
  rows bigint not null default 0,
  made_at timestamptz not null default flywheel.now(),
  indexed_at timestamptz,
  merged_by xid8,
  replaced_at timestamptz,
  constraint _vector_segments_pkey primary key (part),
  constraint _vector_segments_embedder_id_fkey foreign key (embedder_id) references flywheel._embedders,
  constraint store_is_known check (store in ('log', 'examples', 'corrections')),
  constraint state_is_known check (state in ('open', 'closed', 'indexed', 'merged', 'replaced')),
  constraint last_not_before_first check (last_segment >= first_segment)
);

create unique index _vector_segments_open_key on flywheel._vector_segments (embedder_id, store) where state = 'open';

comment on table flywheel._vector_segments is 'The parts of each store of vectors: one open, the others with an HNSW index of their own.';
comment on column flywheel._vector_segments.part is 'Number of its partition, which carries it in its name.';
comment on column flywheel._vector_segments.embedder_id is 'The embedder.';
comment on column flywheel._vector_segments.store is 'log (all traces), examples (for judges) or corrections (for applications).';
comment on column flywheel._vector_segments.first_segment is 'First number of its range.';
comment on column flywheel._vector_segments.last_segment is 'Last number of its range.';
comment on column flywheel._vector_segments.state is 'open (written to, searched exactly), closed (about to be indexed), indexed, merged (of several that it will replace when every snapshot sees its rows), or replaced (by a larger one; dropped when nobody can be reading it).';
comment on column flywheel._vector_segments.rows is 'Vectors it had when it was closed.';
comment on column flywheel._vector_segments.made_at is 'When it was made.';
comment on column flywheel._vector_segments.indexed_at is 'When its index was built.';
comment on column flywheel._vector_segments.merged_by is 'The transaction that wrote it, if it was merged.';
comment on column flywheel._vector_segments.replaced_at is 'When another part took its place.';

-- A queue without a key: rows are added by every statement that writes traces, and taken all at once.
-- What it says is only that a trace should be looked at again, so its order does not matter.
create table flywheel._arrivals (
  arrived_at timestamptz not null,
  -- Random bytes: trying to compress them takes longer than writing them.
  trace_ids uuid[] not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

alter table flywheel._arrivals alter column trace_ids set storage external;

comment on table flywheel._arrivals is 'Traces whose vectors are to be brought up to date: new, changed or deleted.';
comment on column flywheel._arrivals.arrived_at is 'When their transaction began.';
comment on column flywheel._arrivals.trace_ids is 'The traces of one statement.';

-- Vectors that nobody finds any more, because their trace or example is gone or has another revision.
create table flywheel._stale_vectors (
  store text not null,
  item_id uuid not null,
  revision integer
);

comment on table flywheel._stale_vectors is 'Vectors to be removed when no index is being built.';
comment on column flywheel._stale_vectors.store is 'The store.';
comment on column flywheel._stale_vectors.item_id is 'The trace or example.';
comment on column flywheel._stale_vectors.revision is 'Vectors of older revisions go; null: all of the item.';

create table flywheel._embedding_jobs (
  embedder_id integer not null,
  store text not null,
  item_id uuid not null,
  priority smallint not null default 0,
  run_at timestamptz not null,
  attempts smallint not null default 0,
  state text not null default 'pending',
  token bigint,
  leased_until timestamptz,
  worker text,
  last_error text,
  constraint _embedding_jobs_pkey primary key (embedder_id, store, item_id),
  constraint _embedding_jobs_embedder_id_fkey foreign key (embedder_id)
    references flywheel._embedders on delete cascade,
  constraint state_is_pending_or_dead check (state in ('pending', 'dead'))
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index _embedding_jobs_claim_idx on flywheel._embedding_jobs (embedder_id, priority, run_at) where state = 'pending';

comment on table flywheel._embedding_jobs is 'Texts whose vectors a worker has to get: of embedders that are not in the database.';
comment on column flywheel._embedding_jobs.embedder_id is 'The embedder.';
comment on column flywheel._embedding_jobs.store is 'log, examples or corrections.';
comment on column flywheel._embedding_jobs.item_id is 'The trace or example.';
comment on column flywheel._embedding_jobs.priority is '0 for what has just arrived, 1 for a backfill.';
comment on column flywheel._embedding_jobs.run_at is 'Not to be claimed before.';
comment on column flywheel._embedding_jobs.attempts is 'Claims that count. The more, the fewer others are sent with it.';
comment on column flywheel._embedding_jobs.state is 'pending or dead.';
comment on column flywheel._embedding_jobs.token is 'Fencing token of the latest claim.';
comment on column flywheel._embedding_jobs.leased_until is 'When the claim ends by itself.';
comment on column flywheel._embedding_jobs.worker is 'Who claimed it last.';
comment on column flywheel._embedding_jobs.last_error is 'Its latest failure.';

-- Texts that a worker got with one claim.
create type flywheel._text_batch as (
  embedder_id integer,
  token bigint,
  reserved_tokens integer,
  stores text[],
  item_ids uuid[],
  revisions integer[]
);

comment on type flywheel._text_batch is 'Texts that a worker got with one claim.';

create table flywheel._index_policy (
  only_row boolean not null default true,
  policy text not null default 'all',
  sample_rate double precision not null default 1,
  constraint _index_policy_pkey primary key (only_row),
  constraint there_is_one_row check (only_row),
  constraint policy_is_known check (policy in ('all', 'sample', 'labelled')),
  constraint sample_rate_is_a_share check (sample_rate > 0 and sample_rate <= 1)
);

insert into flywheel._index_policy (policy) values ('all');

comment on table flywheel._index_policy is 'Which traces get a vector in the log: one row.';
comment on column flywheel._index_policy.only_row is 'Always true.';
comment on column flywheel._index_policy.policy is 'all, sample or labelled.';
comment on column flywheel._index_policy.sample_rate is 'sample: the share of traces, chosen by a hash of the trace id.';

create table flywheel._index_measurements (
  embedder_id integer not null,
  store text not null,
  measured_at timestamptz not null default flywheel.now(),
  queries integer not null,
  k integer not null,
  recall double precision,
  index_ms double precision,
  exact_ms double precision,
  constraint _index_measurements_pkey primary key (embedder_id, store),
  constraint _index_measurements_embedder_id_fkey foreign key (embedder_id)
    references flywheel._embedders on delete cascade
);

comment on table flywheel._index_measurements is 'How well the latest sampled queries did against an exact scan.';
comment on column flywheel._index_measurements.embedder_id is 'The embedder.';
comment on column flywheel._index_measurements.store is 'The store.';
comment on column flywheel._index_measurements.measured_at is 'When.';
comment on column flywheel._index_measurements.queries is 'How many queries were sampled.';
comment on column flywheel._index_measurements.k is 'How many neighbours each asked for.';
comment on column flywheel._index_measurements.recall is 'Share of the exact neighbours that the index found.';
comment on column flywheel._index_measurements.index_ms is 'Milliseconds a query took, median.';
comment on column flywheel._index_measurements.exact_ms is 'Milliseconds an exact scan took, median.';

-- What prompts may be made of. The split is held by the table itself: a label of dev or test, or one
-- that no person has confirmed, cannot be written here.
create table flywheel._examples (
  example_id uuid not null default flywheel.uuidv7(),
  kind text not null,
  trace_id uuid not null,
  span_id uuid not null,
  validator_id integer,
  label_id bigint not null,
  split text not null default 'train',
  source text not null,
  labeler text not null,
  created_at timestamptz not null,
  passed boolean,
  input text,
  output text,
  corrected_output text,
  reason text,
  pipeline text,
  node text,
  session_id text,
  disagreement real,
  constraint _examples_pkey primary key (example_id),
  constraint _examples_label_id_kind_key unique (label_id, kind),
  constraint _examples_trace_id_split_fkey foreign key (trace_id, split)
    references flywheel._label_splits (trace_id, split),
  constraint split_is_train check (split = 'train'),
  constraint a_person_has_confirmed_it check (source in ('human', 'human_confirmed', 'human_edited')),
  constraint kind_is_verdict_or_correction check (kind in ('verdict', 'correction')),
  constraint a_verdict_has_a_validator check (kind <> 'verdict' or validator_id is not null and passed is not null),
  constraint a_correction_has_an_output check (kind <> 'correction' or corrected_output is not null)
);

create index _examples_trace_id_idx on flywheel._examples (trace_id, span_id);
create index _examples_verdict_idx on flywheel._examples (validator_id, created_at desc) where kind = 'verdict';
create index _examples_correction_idx on flywheel._examples (created_at desc) where kind = 'correction';
create index _examples_unjudged_idx on flywheel._examples (created_at desc) where kind = 'verdict' and disagreement is null;

comment on table flywheel._examples is 'Labelled examples that prompts may show: current labels and corrections of people, in the split train.';
comment on column flywheel._examples.example_id is 'Identity of the example; its vectors carry it.';
comment on column flywheel._examples.kind is 'verdict (for judges) or correction (for the application).';
comment on column flywheel._examples.trace_id is 'The trace. It may be gone.';
comment on column flywheel._examples.span_id is 'The span, or the nil uuid when the label is about the trace itself.';
comment on column flywheel._examples.validator_id is 'The validator the label answers; null for a correction about none.';
comment on column flywheel._examples.label_id is 'The label it comes from.';
comment on column flywheel._examples.split is 'Always train.';
comment on column flywheel._examples.source is 'human, human_confirmed or human_edited.';
comment on column flywheel._examples.labeler is 'Who judged.';
comment on column flywheel._examples.created_at is 'When the label was made.';
comment on column flywheel._examples.passed is 'What the validator should say.';
comment on column flywheel._examples.input is 'Input of the trace or span.';
comment on column flywheel._examples.output is 'Its output.';
comment on column flywheel._examples.corrected_output is 'What the output should have been.';
comment on column flywheel._examples.reason is 'Why, in the labeler''s words.';
comment on column flywheel._examples.pipeline is 'Pipeline of the trace.';
comment on column flywheel._examples.node is 'Node of the span.';
comment on column flywheel._examples.session_id is 'Session of the trace: none of its examples is shown for another trace of it.';
comment on column flywheel._examples.disagreement is 'How far the validator''s verdict was from the label: 1 the opposite, 0 the same, null unknown.';

create table flywheel._example_approvals (
  label_id bigint not null,
  is_approved boolean not null,
  reason text,
  decided_by text not null default session_user,
  decided_at timestamptz not null default flywheel.now(),
  constraint _example_approvals_pkey primary key (label_id)
);

comment on table flywheel._example_approvals is 'Which labels were approved as examples, and which must not be shown.';
comment on column flywheel._example_approvals.label_id is 'The label.';
comment on column flywheel._example_approvals.is_approved is 'True: approved; false: forgotten as an example.';
comment on column flywheel._example_approvals.reason is 'Why.';
comment on column flywheel._example_approvals.decided_by is 'The role that was logged in and decided.';
comment on column flywheel._example_approvals.decided_at is 'When.';

-- An example on its way into a prompt.
create type flywheel._candidate as (
  example_id uuid,
  similarity double precision,
  age_factor double precision,
  disagreement_factor double precision,
  weight double precision,
  passed boolean,
  embedding flywheel._vector,
  redundancy double precision,
  score double precision
);

comment on type flywheel._candidate is 'An example on its way into a prompt, with the factors of its weight.';
