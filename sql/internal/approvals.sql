-- Sign-off on the prompts of judges: flywheel.require_prompt_approval.

-- The setting of the database counts even if a session says otherwise. What is not clearly off is on.
create or replace function flywheel._is_switched_on(name text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select bool_or(lower(btrim(s.value)) not in ('off', 'false', 'no', 'f', 'n', '0', ''))
  from (
    select coalesce(current_setting(_is_switched_on.name, true), '')
    union all (
      select substr(c.setting, strpos(c.setting, '=') + 1)
      from pg_db_role_setting as r, unnest(r.setconfig) as c (setting)
      where r.setrole = 0
        and r.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
        and lower(split_part(c.setting, '=', 1)) = _is_switched_on.name
      order by r.setdatabase desc
      limit 1
    )
  ) as s (value);
$$;

comment on function flywheel._is_switched_on(text) is
  'Whether a switch is on: for the database or for the session.';

create or replace function flywheel._requires_approval()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._is_switched_on('flywheel.require_prompt_approval');
$$;

comment on function flywheel._requires_approval() is
  'Whether judges run only after approve_prompt(): flywheel.require_prompt_approval of the database or the session.';

create or replace function flywheel._prompt_sha256(version flywheel._validator_versions)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select encode(sha256(convert_to(jsonb_build_array(
    version.body, version.params, version.model, version.few_shot_k, flywheel._instructions(version),
    flywheel._message_parts(version, true)
  )::text, 'UTF8')), 'hex');
$$;

comment on function flywheel._prompt_sha256(flywheel._validator_versions) is
  'Digest of what an approval is about: the criterion or template, its params, its model and our instructions.';

create or replace function flywheel._is_approved(version flywheel._validator_versions)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select exists (
    select from flywheel._approvals as a
    where a.version_id = version.version_id and a.prompt_sha256 = flywheel._prompt_sha256(version)
  );
$$;

comment on function flywheel._is_approved(flywheel._validator_versions) is
  'Whether somebody has approved this very prompt.';
