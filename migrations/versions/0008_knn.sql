-- What nearest-neighbour validators compare with. A new table only; its foreign keys take a short lock on
-- _validators and _examples.

create table flywheel._references (
  reference_id bigint generated always as identity,
  validator_id integer not null,
  example_id uuid,
  text text not null,
  text_hash bytea not null,
  created_at timestamptz not null default flywheel.now(),
  created_by text not null default session_user,
  constraint _references_pkey primary key (reference_id),
  constraint _references_validator_id_fkey foreign key (validator_id)
    references flywheel._validators on delete cascade,
  constraint _references_example_id_fkey foreign key (example_id)
    references flywheel._examples on delete cascade
);

do $$
begin
  execute (
    select format('alter table flywheel._references add column embedding %I.vector(384) not null', n.nspname)
    from pg_extension as e
    join pg_namespace as n on n.oid = e.extnamespace
    where e.extname = 'vector'
  );
end
$$;

-- Read for each comparison, so it stays beside the row; a long text goes out of the way.
alter table flywheel._references alter column embedding set storage plain;

create index _references_validator_id_idx on flywheel._references (validator_id);
create unique index _references_text_key on flywheel._references (validator_id, text_hash) where example_id is null;
create index _references_example_id_idx on flywheel._references (example_id) where example_id is not null;

comment on table flywheel._references is 'Texts that nearest-neighbour validators compare with: given ones, and labelled examples.';
comment on column flywheel._references.reference_id is 'Identity of the reference.';
comment on column flywheel._references.validator_id is 'The validator.';
comment on column flywheel._references.example_id is 'The labelled example it comes from; null if it was given to add_references().';
comment on column flywheel._references.text is 'The text.';
comment on column flywheel._references.text_hash is 'SHA-256 of the text: equal texts are one reference.';
comment on column flywheel._references.created_at is 'When it was added.';
comment on column flywheel._references.created_by is 'The role that was logged in and added it.';
comment on column flywheel._references.embedding is 'Its vector by the embedder hash.';

create type flywheel._calibration_row as (passed boolean, similarity double precision);

comment on type flywheel._calibration_row is 'A labelled row: what people say of it, and how near it is to what its validator compares with.';

-- They have one more parameter.
drop function if exists flywheel._compiled_body(text, integer, integer[], integer[], integer[], boolean, text);
drop function if exists flywheel._gate_body(integer[], integer[]);
