-- How far a resumable import has come. The importer records it in the transaction of each batch.

create or replace function flywheel.import_progress(source text, sha256 text)
returns table (lines_done bigint, rows_done bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_import flywheel._imports;
begin
  select * into v_import from flywheel._imports as i where i.source = import_progress.source;
  if v_import.sha256 <> import_progress.sha256 then
    raise exception 'the content of % has changed since its import began', source
      using errcode = 'LF202', hint = 'Import the changed file under another name.';
  end if;
  if v_import.source is not null then
    lines_done := v_import.lines_done;
    rows_done := v_import.rows_done;
    return next;
  end if;
end
$$;

comment on function flywheel.import_progress(text, text) is
  'Lines and rows of a file that are imported and committed; no row if its import has not begun. LF202 if the content changed.';

create or replace function flywheel.record_import(source text, sha256 text, lines_done bigint, rows_done bigint)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  insert into flywheel._imports (source, sha256, lines_done, rows_done, updated_at)
  values (record_import.source, record_import.sha256, record_import.lines_done, record_import.rows_done, flywheel.now())
  on conflict (source) do update
  set sha256 = excluded.sha256, lines_done = excluded.lines_done, rows_done = excluded.rows_done,
    updated_at = excluded.updated_at;
$$;

comment on function flywheel.record_import(text, text, bigint, bigint) is
  'Records how far an import has come. Call it in the transaction that stores the rows.';
