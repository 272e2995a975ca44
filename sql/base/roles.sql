-- The roles of the product. They are cluster-wide, so another database of the same cluster
-- may have made them already, or may be making them at this very moment.
do $$
declare
  v_role text;
begin
  foreach v_role in array array[
    'flywheel_admin', 'flywheel_writer', 'flywheel_labeler', 'flywheel_reader', 'flywheel_worker', 'flywheel_validator',
    'flywheel_metric'
  ] loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
      begin
        execute pg_catalog.format('create role %I nologin', v_role);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
  end loop;

  -- A database owner that is no superuser needs membership to hand the compiled
  -- functions over to the roles they run as.
  foreach v_role in array array['flywheel_validator', 'flywheel_metric'] loop
    if not pg_catalog.pg_has_role(current_user, v_role, 'usage') then
      execute pg_catalog.format('grant %I to %I', v_role, current_user);
    end if;
  end loop;

  if not pg_catalog.pg_has_role('flywheel_admin', 'flywheel_writer', 'member') then
    grant flywheel_writer to flywheel_admin;
  end if;
  if not pg_catalog.pg_has_role('flywheel_admin', 'flywheel_labeler', 'member') then
    grant flywheel_labeler to flywheel_admin;
  end if;
  if not pg_catalog.pg_has_role('flywheel_admin', 'flywheel_worker', 'member') then
    grant flywheel_worker to flywheel_admin;
  end if;
  if not pg_catalog.pg_has_role('flywheel_admin', 'flywheel_reader', 'member') then
    grant flywheel_reader to flywheel_admin;
  end if;
  -- A metric reads what a reader reads.
  if not pg_catalog.pg_has_role('flywheel_metric', 'flywheel_reader', 'member') then
    grant flywheel_reader to flywheel_metric;
  end if;
end
$$;
