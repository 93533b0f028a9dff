PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE tool_definition (
    key        INTEGER PRIMARY KEY,
    hash       TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL
) STRICT;
INSERT INTO tool_definition VALUES(1,'6160e19098820254b30add8d767caa595cb8f2db5ad2f49ac11c0a2244532965','{"name":"report","title":"Leaves results","command":["sh","-c","cat \"$0\" > \"$ONELANE_OUTPUT/copy.fasta\"; echo hello; exit \"$1\"","{query}","{code}"],"needs":{},"on_interrupt":"restart","params":{"query":{"type":"fasta","optional":false,"alphabet":"protein","duplicates":"refuse"},"code":{"type":"integer","optional":false,"default":0}},"results":{"copy":{"file":"copy.fasta"}},"exit_codes":{"4":"ran out of something"}}');
INSERT INTO tool_definition VALUES(2,'a3b20f12fb8c3df1edbbd130d711fc1ed093a37d47fb2d1a1cc1c526d939a428','{"name":"sleep","command":["sleep","{seconds}"],"needs":{},"on_interrupt":"restart","params":{"seconds":{"type":"number","optional":false}},"results":{},"exit_codes":{}}');
CREATE TABLE job (
    seq             INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    -- The last eight hexadecimal digits of the id read backwards as a number: a suffix of the id is a range of it.
    id_tail         INTEGER NOT NULL,
    owner           TEXT NOT NULL,
    tool            TEXT NOT NULL,
    definition      INTEGER NOT NULL REFERENCES tool_definition (key),
    name            TEXT,
    priority        INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    order_key       INTEGER NOT NULL,
    state           TEXT NOT NULL
                    CHECK (state IN ('queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled')),
    ready_at        INTEGER CHECK ((ready_at IS NOT NULL) = (state = 'queued')),
    claimed_at      INTEGER CHECK ((claimed_at IS NOT NULL) = (state = 'starting')),
    started_at      INTEGER
                    CHECK (started_at IS NOT NULL OR state NOT IN ('running', 'succeeded'))
                    CHECK (started_at IS NULL OR state NOT IN ('queued', 'starting')),
    stuck           INTEGER NOT NULL DEFAULT 0 CHECK (stuck = 0 OR (stuck = 1 AND state = 'running')),
    finished_at     INTEGER
                    CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    failure_kind    TEXT
                    CHECK ((failure_kind IS NOT NULL) = (state = 'failed'))
                    CHECK (failure_kind IN ('exit', 'signal', 'timed_out', 'out_of_memory', 'output_limit',
                                            'start_failed', 'interrupted', 'node_failed', 'preempted', 'unknown')),
    failure_code    INTEGER
                    CHECK ((failure_code IS NOT NULL) = (coalesce(failure_kind, '') IN ('exit', 'signal'))),
    failure_message TEXT CHECK ((failure_message IS NOT NULL) = (state = 'failed')),
    stop_reason     TEXT CHECK (stop_reason IN ('cancel', 'time', 'memory', 'output', 'shutdown')),
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    digest          TEXT NOT NULL,
    result_of       BLOB CHECK (length(result_of) = 16),
    created_at      INTEGER NOT NULL,
    changed_seq     INTEGER NOT NULL
) STRICT;
INSERT INTO job VALUES(1,X'01a2120dccf374c280625da6d2fbb447',1951121197,'anonymous','report',1,'succeeded',0,1801439850948198401,'succeeded',NULL,NULL,1795599224075,0,1795599224077,NULL,NULL,NULL,NULL,1,'0cabde8efdc322d8d21b579fa56e7887b7050cd3e0278503e1327a58d0115227',NULL,1795599224051,4);
INSERT INTO job VALUES(2,X'01a2120dcda77ed88f84f41910f95a3a',2745540353,'anonymous','report',1,'failed',0,1801439850948198402,'failed',NULL,NULL,1795599224250,0,1795599224266,'exit',4,'exit code 4: ran out of something',NULL,1,'67e64131a6b46903b6fbbced9baa63bea4dea0dea84bead2bc94c3d2012869ae',NULL,1795599224231,8);
INSERT INTO job VALUES(3,X'01a2120dce4c78b3916b6c3b39c64b5b',3048500371,'anonymous','sleep',2,'cancelled',0,1801439850948198403,'cancelled',NULL,NULL,1795599224442,0,1795599224446,NULL,NULL,NULL,'cancel',1,'40f71f25ac5bab267a0ba326de1fa461f3920734f9c65139ee8796668bfcafa3',NULL,1795599224402,13);
INSERT INTO job VALUES(4,X'01a2120dcef17727a7c74b4267b12997',2039618422,'anonymous','sleep',2,'interrupted',0,1801439850948198404,'running',NULL,NULL,1795599224578,0,NULL,NULL,NULL,NULL,NULL,1,'ca73dc03f4cb3e28a4834de47ae34b36d49bae162171aef8f0321eac4d22b103',NULL,1795599224562,16);
INSERT INTO job VALUES(5,X'01a2120dcf4578dfae5eaa33ca84bcb9',2613790892,'anonymous','report',1,'queued-1',0,1801439850948198405,'queued',1795599224645,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,'1f68edeeb591c6d17ca7eddabbb8ecba676a8752038f948695710b94cdc13358',NULL,1795599224645,17);
INSERT INTO job VALUES(6,X'01a2120dcf5e7e228f01d4dd892eb17e',3877364376,'anonymous','sleep',2,'queued-2',0,1801439850948198406,'queued',1795599224670,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,'c42bdb237443853077284e5d98f6f23bccc39d064908e1741d5c88ed5fb433e7',NULL,1795599224670,18);
CREATE TABLE job_tag (
    job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
INSERT INTO job_tag VALUES(1,'fixture');
INSERT INTO job_tag VALUES(2,'fixture');
INSERT INTO job_tag VALUES(3,'fixture');
INSERT INTO job_tag VALUES(4,'fixture');
INSERT INTO job_tag VALUES(5,'fixture');
INSERT INTO job_tag VALUES(6,'fixture');
CREATE TABLE job_after (
    job   INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    after BLOB NOT NULL CHECK (length(after) = 16),
    PRIMARY KEY (job, after)
) STRICT, WITHOUT ROWID;
CREATE TABLE job_input (
    job    INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    params TEXT NOT NULL,
    files  TEXT NOT NULL,
    notes  TEXT NOT NULL
) STRICT;
INSERT INTO job_input VALUES(1,'{"code":0,"query":{"file":"query.fasta","records":1,"residues":4}}','[{"param":"query","file":"query.fasta","content":{"inline":">a\nACDE\n"}}]','[]');
INSERT INTO job_input VALUES(2,'{"code":4,"query":{"file":"query.fasta","records":1,"residues":4}}','[{"param":"query","file":"query.fasta","content":{"inline":">a\nACDE\n"}}]','[]');
INSERT INTO job_input VALUES(3,'{"seconds":1000}','[]','[]');
INSERT INTO job_input VALUES(4,'{"seconds":3}','[]','[]');
INSERT INTO job_input VALUES(5,'{"code":0,"query":{"file":"query.fasta","records":1,"residues":4}}','[{"param":"query","file":"query.fasta","content":{"inline":">b\nFGHI\n"}}]','[]');
INSERT INTO job_input VALUES(6,'{"seconds":0}','[]','[]');
CREATE TABLE attempt (
    job               INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    attempt           INTEGER NOT NULL CHECK (attempt >= 1),
    claimed_at        INTEGER NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER,
    pid               INTEGER,
    start_time        INTEGER CHECK ((start_time IS NULL) = (pid IS NULL)),
    boot_id           TEXT CHECK ((boot_id IS NULL) = (pid IS NULL)),
    pid_namespace     TEXT CHECK ((pid_namespace IS NULL) = (pid IS NULL)),
    tool_version      TEXT,
    outcome           TEXT,
    exit_code         INTEGER,
    wall_s            REAL,
    cpu_s             REAL CHECK ((cpu_s IS NULL) = (wall_s IS NULL)),
    memory_peak_bytes INTEGER CHECK ((memory_peak_bytes IS NULL) = (wall_s IS NULL)), process_control TEXT, claimed_boot_id TEXT,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt VALUES(1,1,1795599224055,1795599224075,1795599224077,31999,2292767,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'exit',0,0.0025467089999999998652,0.0025730000000000002001,2211840,'cgroup','00000000-0000-0000-0000-000000000000');
INSERT INTO attempt VALUES(2,1,1795599224234,1795599224250,1795599224266,32018,2292786,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'exit',4,0.015472724999999999673,0.0031500000000000000222,2310144,'cgroup','00000000-0000-0000-0000-000000000000');
INSERT INTO attempt VALUES(3,1,1795599224404,1795599224442,1795599224446,32033,2292803,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'cancelled',NULL,0.0042509100000000001051,0.0017270000000000000194,2375680,'cgroup','00000000-0000-0000-0000-000000000000');
INSERT INTO attempt VALUES(4,1,1795599224564,1795599224578,NULL,32046,2292818,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,NULL,NULL,NULL,NULL,NULL,'cgroup','00000000-0000-0000-0000-000000000000');
CREATE TABLE idempotency (
    owner        TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    job          BLOB NOT NULL CHECK (length(job) = 16),
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
INSERT INTO idempotency VALUES('anonymous','cancelled','a3062750521adff670a7210c07446de9bc405bdaf2b1e8d23273bfe7223b03a8',X'01a2120dce4c78b3916b6c3b39c64b5b');
INSERT INTO idempotency VALUES('anonymous','failed','b98a14904f91906d645e154c674ae6c0142706a02cec11815c70cb5ea093383f',X'01a2120dcda77ed88f84f41910f95a3a');
INSERT INTO idempotency VALUES('anonymous','interrupted','4ae341a621023d22eb851485ac6f816a624b32727a2fb28801973928556718ab',X'01a2120dcef17727a7c74b4267b12997');
INSERT INTO idempotency VALUES('anonymous','queued-1','8b5e786c18ac3b94a9061c6fe9208c8f6222baad2978ac90e6e16cbe34287cf9',X'01a2120dcf4578dfae5eaa33ca84bcb9');
INSERT INTO idempotency VALUES('anonymous','queued-2','546ccbe87325aebed72c68a50a867afda46d4d07c80fc00688ef31fb6b9ed5d5',X'01a2120dcf5e7e228f01d4dd892eb17e');
INSERT INTO idempotency VALUES('anonymous','succeeded','362b8895312e9b6ca87d5dd16efb6165b5ef1deaaf3a53f03ac2fb50dbabef65',X'01a2120dccf374c280625da6d2fbb447');
CREATE TABLE owner_clock (
    owner TEXT PRIMARY KEY,
    clock INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE high_water (
    name  TEXT PRIMARY KEY CHECK (name IN ('seq', 'changed_seq')),
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX job_alive ON job (seq) WHERE state IN ('starting', 'running');
CREATE UNIQUE INDEX job_changed ON job (changed_seq);
CREATE INDEX job_by_tail ON job (id_tail);
CREATE INDEX job_by_owner ON job (owner);
CREATE INDEX job_by_tool ON job (tool);
CREATE INDEX job_by_state ON job (state);
CREATE INDEX job_by_name ON job (name) WHERE name IS NOT NULL;
CREATE INDEX job_tag_by_tag ON job_tag (tag, job);
CREATE INDEX job_queued ON job (order_key, id, definition) WHERE state = 'queued';
COMMIT;
PRAGMA application_id = 1332634956;
PRAGMA user_version = 3;
