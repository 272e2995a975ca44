-- Made once. Creating a trigger queues every writer of the table behind a lock, replacing the
-- function it calls does not: what changes is always the function. A trigger whose definition must
-- change is dropped by a migration first. Last of all files, so that the lock is held shortest.
do $$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.*
    from (values
      ('traces', '_010_keep_key',
        'before update on flywheel.traces for each row when (old.trace_id is distinct from new.trace_id) execute function flywheel._tg_targets__keep_key()'),
      ('traces', '_020_revise',
        'before update on flywheel.traces for each row when (old.pipeline is distinct from new.pipeline or old.input is distinct from new.input or old.output is distinct from new.output or old.attributes is distinct from new.attributes or old.status = ''blocked'' and new.status <> ''blocked'') execute function flywheel._tg_targets__revise()'),
      ('traces', '_100_validate_inserted',
        'after insert on flywheel.traces referencing new table as new_rows for each statement execute function flywheel._tg_traces__validate_inserted()'),
      ('traces', '_110_validate_updated',
        'after update on flywheel.traces referencing new table as new_rows for each statement execute function flywheel._tg_traces__validate_updated()'),
      ('traces', '_120_revalidate_spans',
        'after update on flywheel.traces for each row when (old.pipeline is distinct from new.pipeline) execute function flywheel._tg_traces__revalidate_spans()'),
      ('traces', '_200_delete_dependents',
        'after delete on flywheel.traces referencing old table as old_rows for each statement execute function flywheel._tg_traces__delete_dependents()'),
      ('traces', '_210_truncate_dependents',
        'after truncate on flywheel.traces for each statement execute function flywheel._tg_traces__truncate_dependents()'),
      ('spans', '_010_keep_key',
        'before update on flywheel.spans for each row when (old.trace_id is distinct from new.trace_id or old.span_id is distinct from new.span_id) execute function flywheel._tg_targets__keep_key()'),
      ('spans', '_020_revise',
        'before update on flywheel.spans for each row when (old.node is distinct from new.node or old.kind is distinct from new.kind or old.input is distinct from new.input or old.output is distinct from new.output or old.attributes is distinct from new.attributes or old.status = ''blocked'' and new.status <> ''blocked'') execute function flywheel._tg_targets__revise()'),
      ('spans', '_100_validate_inserted',
        'after insert on flywheel.spans referencing new table as new_rows for each statement execute function flywheel._tg_spans__validate_inserted()'),
      ('spans', '_110_validate_updated',
        'after update on flywheel.spans referencing new table as new_rows for each statement execute function flywheel._tg_spans__validate_updated()'),
      ('spans', '_200_delete_dependents',
        'after delete on flywheel.spans referencing old table as old_rows for each statement execute function flywheel._tg_spans__delete_dependents()'),
      ('spans', '_210_truncate_dependents',
        'after truncate on flywheel.spans for each statement execute function flywheel._tg_spans__truncate_dependents()'),
      ('traces', '_300_emit_inserted',
        'after insert on flywheel.traces referencing new table as new_rows for each statement execute function flywheel._tg_traces__emit_inserted()'),
      ('traces', '_310_emit_updated',
        'after update on flywheel.traces referencing old table as old_rows new table as new_rows for each statement execute function flywheel._tg_traces__emit_updated()'),
      ('traces', '_320_emit_deleted',
        'after delete on flywheel.traces referencing old table as old_rows for each statement execute function flywheel._tg_traces__emit_deleted()'),
      ('traces', '_330_emit_truncated',
        'after truncate on flywheel.traces for each statement execute function flywheel._tg_facts__emit_truncated()'),
      ('spans', '_300_emit_inserted',
        'after insert on flywheel.spans referencing new table as new_rows for each statement execute function flywheel._tg_spans__emit_inserted()'),
      ('spans', '_310_emit_updated',
        'after update on flywheel.spans referencing old table as old_rows new table as new_rows for each statement execute function flywheel._tg_spans__emit_updated()'),
      ('spans', '_320_emit_deleted',
        'after delete on flywheel.spans referencing old table as old_rows for each statement execute function flywheel._tg_spans__emit_deleted()'),
      ('spans', '_330_emit_truncated',
        'after truncate on flywheel.spans for each statement execute function flywheel._tg_facts__emit_truncated()'),
      ('_verdicts', '_300_emit_inserted',
        'after insert on flywheel._verdicts referencing new table as new_rows for each statement execute function flywheel._tg_verdicts__emit_inserted()'),
      ('_verdicts', '_310_emit_updated',
        'after update on flywheel._verdicts referencing old table as old_rows new table as new_rows for each statement execute function flywheel._tg_verdicts__emit_updated()'),
      ('_verdicts', '_320_emit_deleted',
        'after delete on flywheel._verdicts referencing old table as old_rows for each statement execute function flywheel._tg_verdicts__emit_deleted()'),
      ('_verdicts', '_330_emit_truncated',
        'after truncate on flywheel._verdicts for each statement execute function flywheel._tg_facts__emit_truncated()'),
      ('_labels', '_100_raise_heads',
        'after insert on flywheel._labels referencing new table as new_rows for each statement execute function flywheel._tg_labels__raise_heads()'),
      ('_label_withdrawals', '_100_lower_heads',
        'after insert on flywheel._label_withdrawals referencing new table as new_rows for each statement execute function flywheel._tg_label_withdrawals__lower_heads()'),
      ('_label_heads', '_300_emit_inserted',
        'after insert on flywheel._label_heads referencing new table as new_rows for each statement execute function flywheel._tg_label_heads__emit_inserted()'),
      ('_label_heads', '_310_emit_updated',
        'after update on flywheel._label_heads referencing old table as old_rows new table as new_rows for each statement execute function flywheel._tg_label_heads__emit_updated()'),
      ('_label_heads', '_320_emit_deleted',
        'after delete on flywheel._label_heads referencing old table as old_rows for each statement execute function flywheel._tg_label_heads__emit_deleted()'),
      ('_label_heads', '_330_emit_truncated',
        'after truncate on flywheel._label_heads for each statement execute function flywheel._tg_facts__emit_truncated()')
    ) as t (table_name, trigger_name, definition)
    where not exists (
      select from pg_catalog.pg_trigger as g
      where g.tgrelid = pg_catalog.format('flywheel.%I', t.table_name)::regclass and g.tgname = t.trigger_name
    )
  loop
    execute pg_catalog.format('create trigger %I %s', v_trigger.trigger_name, v_trigger.definition);
    execute pg_catalog.format(
      'comment on trigger %I on flywheel.%I is %L', v_trigger.trigger_name, v_trigger.table_name,
      'flywheel: ' || pg_catalog.replace(pg_catalog.substr(v_trigger.trigger_name, 6), '_', ' ')
    );
  end loop;
end
$$;
