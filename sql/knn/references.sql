-- What the rules topic and nearest_attack compare with: given texts, and the validator's own labelled
-- examples, which are those that prompts may show, too: of the split train, confirmed by people.
--
-- Few are compared one by one. From 2,000 on a validator has an HNSW index of its own.

create or replace function flywheel._find_knn_validator(name text)
returns flywheel._validator_versions
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions := flywheel._latest_version(flywheel._find_validator(name));
begin
  if v_version.language <> 'knn' then
    raise exception 'the validator % is in the language %', quote_ident(name), v_version.language
      using errcode = 'LF002', hint = 'Only validators in the language ''knn'' compare with texts.';
  end if;
  return v_version;
end
$$;

comment on function flywheel._find_knn_validator(text) is 'The newest version of a nearest-neighbour validator by its name.';

create or replace function flywheel.add_references(validator text, texts text[])
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions := flywheel._find_knn_validator(validator);
  v_blank bigint;
  v_count bigint;
begin
  if v_version.body = 'anomaly' then
    raise exception 'the validator % compares with recent inputs of its pipeline, and with no given texts', quote_ident(validator)
      using errcode = 'LF002', hint = 'Use a validator of the rule ''topic'' for texts that inputs should be like.';
  end if;
  select min(t.place) into v_blank from unnest(texts) with ordinality as t (text, place) where coalesce(t.text, '') !~ '\S';
  if v_blank is not null then
    raise exception 'text % of % is blank', v_blank, cardinality(texts) using errcode = 'LF002', hint = 'Nothing was added. Leave it out.';
  end if;
  insert into flywheel._references (validator_id, text, text_hash, embedding)
  select v_version.validator_id, t.text, flywheel._text_hash(t.text), t.embedding
  from rows from (unnest(texts), unnest(flywheel._hash_vectors(texts))) as t (text, embedding)
  where t.embedding is not null
  on conflict do nothing;
  get diagnostics v_count = row_count;
  perform flywheel._index_references(v_version.validator_id);
  return v_count;
end
$$;

comment on function flywheel.add_references(text, text[]) is
  'Gives a knn validator texts to compare with: of the topic, for the rule topic; known attacks, for nearest_attack. Returns how many were new.';

create or replace function flywheel.remove_references(validator text, texts text[])
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions := flywheel._find_knn_validator(validator);
  v_count bigint;
begin
  delete from flywheel._references as r
  using unnest(texts) as t (text)
  where r.validator_id = v_version.validator_id and r.example_id is null
    and r.text_hash = flywheel._text_hash(t.text);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function flywheel.remove_references(text, text[]) is
  'Removes texts that were given by add_references(). Labelled examples go when their label is withdrawn or forgotten. Returns how many were removed.';

create or replace function flywheel._text_hash(content text)
returns bytea
language sql
immutable
parallel safe
begin atomic
  select sha256(convert_to(content, 'UTF8'));
end;

comment on function flywheel._text_hash(text) is 'SHA-256 of a text.';

-- Only an index of the validator's own finds its texts among those of others.
create or replace function flywheel._index_references(validator_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if to_regclass(flywheel._references_index(validator_id)) is null and (
    select count(*) from flywheel._references as r where r.validator_id = _index_references.validator_id
  ) >= 2000 then
    execute format(
      'create index %s on flywheel._references using hnsw (embedding %s.vector_ip_ops) where validator_id = %s',
      replace(flywheel._references_index(validator_id), 'flywheel.', ''), flywheel._vector_schema(), validator_id
    );
  end if;
end
$$;

comment on function flywheel._index_references(integer) is 'Builds the index of a validator''s reference texts if it has many and lacks it.';

create or replace function flywheel._drop_references(validator_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if to_regclass(flywheel._references_index(validator_id)) is not null then
    execute format('drop index %s', flywheel._references_index(validator_id));
  end if;
  delete from flywheel._references as r where r.validator_id = _drop_references.validator_id;
end
$$;

comment on function flywheel._drop_references(integer) is 'Removes all reference texts of a validator and their index.';

create or replace function flywheel._references_index(validator_id integer)
returns text
language sql
immutable
parallel safe
begin atomic
  select format('flywheel._references_%s_embedding_idx', validator_id);
end;

comment on function flywheel._references_index(integer) is 'Name of the index of a validator''s reference texts, if it has one.';

-- Called when examples are made, and when a new version may look at another text.
create or replace function flywheel._add_example_references(examples flywheel._examples[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_found record;
begin
  select array_agg(r.validator_id) as validator_ids, array_agg(r.example_id) as example_ids, array_agg(r.text) as texts
  into v_found
  from (
    select e.validator_id, e.example_id, case p.side when 'output' then e.output else e.input end as text
    from unnest(examples) as e
    join lateral flywheel._latest_version(e.validator_id) as v on v.language = 'knn',
      lateral (select (flywheel._knn_default_params(v.body) || v.params) ->> 'text') as p (side)
    where e.kind = 'verdict' and (v.body = 'topic' and e.passed or v.body = 'nearest_attack' and not e.passed)
  ) as r;
  if v_found.texts is not null then
    insert into flywheel._references (validator_id, example_id, text, text_hash, embedding)
    select k.validator_id, k.example_id, k.text, flywheel._text_hash(k.text), k.embedding
    from rows from (
      unnest(v_found.validator_ids), unnest(v_found.example_ids), unnest(v_found.texts),
      unnest(flywheel._hash_vectors(v_found.texts))
    ) as k (validator_id, example_id, text, embedding)
    where k.embedding is not null;
  end if;
end
$$;

comment on function flywheel._add_example_references(flywheel._examples[]) is
  'Makes labelled examples of nearest-neighbour validators reference texts: what passed, for topic; what failed, for nearest_attack.';

create or replace view flywheel.reference_texts as
select
  d.name as validator,
  r.text,
  case when r.example_id is null then 'given' else 'label' end as source,
  e.trace_id,
  r.created_at,
  r.created_by
from flywheel._references as r
join flywheel._validators as d on d.validator_id = r.validator_id
left join flywheel._examples as e on e.example_id = r.example_id;

comment on view flywheel.reference_texts is 'What knn validators of the rules topic and nearest_attack compare with.';
comment on column flywheel.reference_texts.validator is 'Name of the validator.';
comment on column flywheel.reference_texts.text is 'The text.';
comment on column flywheel.reference_texts.source is 'given (by add_references()) or label (a labelled example of the split train).';
comment on column flywheel.reference_texts.trace_id is 'The labelled trace; null for a given text.';
comment on column flywheel.reference_texts.created_at is 'When it was added.';
comment on column flywheel.reference_texts.created_by is 'The role that was logged in and added it.';
