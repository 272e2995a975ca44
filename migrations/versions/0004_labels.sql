-- Labels. New tables only; they outlive what they are about, so nothing here refers to a trace.

-- The row is the draw: whoever comes second finds it, waits for it, or fails to serialize. A lock
-- alone would not do, because a transaction with an older snapshot would draw again.
create table flywheel._label_splits (
  trace_id uuid not null,
  split text not null,
  drawn_at timestamptz not null default flywheel.now(),
  constraint _label_splits_pkey primary key (trace_id),
  -- What _labels refers to, so that no label can stand in another split than its trace.
  constraint _label_splits_trace_id_split_key unique (trace_id, split),
  constraint split_is_train_dev_or_test check (split in ('train', 'dev', 'test'))
);

comment on table flywheel._label_splits is 'The split of each trace that was ever labelled, drawn once for the trace and all its spans.';
comment on column flywheel._label_splits.trace_id is 'The trace.';
comment on column flywheel._label_splits.split is 'train, dev or test.';
comment on column flywheel._label_splits.drawn_at is 'When it was drawn: with the first label.';

create table flywheel._labels (
  trace_id uuid not null,
  span_id uuid not null,
  label_id bigint generated always as identity,
  revision integer not null,
  validator_id integer,
  version_id integer,
  created_at timestamptz not null default flywheel.now(),
  passed boolean,
  gold_label text,
  score double precision,
  reason text,
  corrected_output text,
  labeler text not null,
  session_role text not null default session_user,
  source text not null,
  split text not null,
  sampling_probability double precision,
  input text,
  output text,
  pipeline text,
  node text,
  attributes jsonb not null,
  target_received_at timestamptz not null,
  precedence smallint not null generated always as (
    case when source = 'llm_default' then 0 else 2 end
    + case when passed is null and gold_label is null and score is null then 0 else 1 end
  ) stored,
  constraint _labels_pkey primary key (trace_id, label_id),
  constraint _labels_trace_id_split_fkey foreign key (trace_id, split)
    references flywheel._label_splits (trace_id, split),
  -- Without ON DELETE: what people have labelled stays, and keeps the validator's name.
  constraint _labels_validator_id_fkey foreign key (validator_id) references flywheel._validators,
  constraint _labels_version_id_fkey foreign key (version_id) references flywheel._validator_versions,
  constraint label_says_something check (
    num_nonnulls(passed, gold_label, score, corrected_output) > 0
  ),
  constraint validator_is_missing_only_from_corrections check (
    (validator_id is null) = (version_id is null)
    and (validator_id is not null or corrected_output is not null)
  ),
  constraint source_is_known check (source in ('human', 'llm_default', 'human_confirmed', 'human_edited')),
  constraint sampling_probability_is_a_share check (sampling_probability > 0 and sampling_probability <= 1),
  constraint labeler_is_not_blank check (btrim(labeler) <> '')
);

-- Whether a label is the current one of its target, and all labels of a trace.
create index _labels_target_idx on flywheel._labels (trace_id, span_id, validator_id, precedence, label_id);
-- A validator's labels; its newest passing and failing examples without passing over any others.
create index _labels_validator_id_idx on flywheel._labels (validator_id, precedence, split, passed, label_id);
create index _labels_version_id_idx on flywheel._labels (version_id);
create index _labels_label_id_idx on flywheel._labels (label_id);
create index _labels_correction_idx on flywheel._labels (pipeline, label_id)
  where corrected_output is not null and precedence >= 2;

comment on table flywheel._labels is 'What people (and models, provisionally) say of traces and spans. Rows are only ever added; each holds its own copy of what it is about.';
comment on column flywheel._labels.trace_id is 'The trace. It may be gone.';
comment on column flywheel._labels.span_id is 'The span, or the nil uuid when the label is about the trace itself.';
comment on column flywheel._labels.label_id is 'Identity of the label; a greater one is newer.';
comment on column flywheel._labels.revision is 'The revision of the target it is about.';
comment on column flywheel._labels.validator_id is 'The validator it answers; null for a correction about no validator.';
comment on column flywheel._labels.version_id is 'The version of the validator.';
comment on column flywheel._labels.created_at is 'When it was made.';
comment on column flywheel._labels.passed is 'What the validator should say.';
comment on column flywheel._labels.gold_label is 'The true class.';
comment on column flywheel._labels.score is 'The true score.';
comment on column flywheel._labels.reason is 'Why.';
comment on column flywheel._labels.corrected_output is 'What the output should have been.';
comment on column flywheel._labels.labeler is 'Who judged, as the caller says.';
comment on column flywheel._labels.session_role is 'The role that was logged in and wrote it.';
comment on column flywheel._labels.source is 'human, llm_default, human_confirmed or human_edited.';
comment on column flywheel._labels.split is 'train, dev or test: that of the trace.';
comment on column flywheel._labels.sampling_probability is 'With which probability the target was chosen for labeling, if known.';
comment on column flywheel._labels.input is 'The target''s input at that revision.';
comment on column flywheel._labels.output is 'The target''s output at that revision.';
comment on column flywheel._labels.pipeline is 'The pipeline of the trace; null for a span whose trace had not arrived.';
comment on column flywheel._labels.node is 'The node of the span; null for a trace.';
comment on column flywheel._labels.attributes is 'The target''s attributes at that revision.';
comment on column flywheel._labels.target_received_at is 'When the target was received: tells it from a later row with the same ids.';
comment on column flywheel._labels.precedence is '3 a person decided, 2 a person only corrected, 1 a model decided, 0 a model only corrected. The current label is the newest of the highest.';

create table flywheel._label_withdrawals (
  trace_id uuid not null,
  label_id bigint not null,
  reason text,
  withdrawn_by text not null default session_user,
  withdrawn_at timestamptz not null default flywheel.now(),
  constraint _label_withdrawals_pkey primary key (trace_id, label_id),
  constraint _label_withdrawals_trace_id_label_id_fkey foreign key (trace_id, label_id)
    references flywheel._labels (trace_id, label_id)
);

comment on table flywheel._label_withdrawals is 'Labels that no longer count.';
comment on column flywheel._label_withdrawals.trace_id is 'The trace of the label.';
comment on column flywheel._label_withdrawals.label_id is 'The label.';
comment on column flywheel._label_withdrawals.reason is 'Why it was withdrawn.';
comment on column flywheel._label_withdrawals.withdrawn_by is 'The role that was logged in and withdrew it.';
comment on column flywheel._label_withdrawals.withdrawn_at is 'When.';
