SET lock_timeout = '5s';

DROP TABLE audit_entries;
DROP FUNCTION refuse_audit_change();
DROP TABLE changes;
