/* SQLite: a table in memory filled, indexed, asked and changed. */

#include "bytepool/adapters/sqlite.h"

#include "job.h"

static const char script[] =
    "CREATE TABLE words (number INTEGER PRIMARY KEY, word TEXT, weight REAL);"
    "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 10000)"
    " INSERT INTO words SELECT n, printf('%x-%0*d', n * 2654435761 % 1000003, n % 90, n), n / 7.0 FROM count;"
    "CREATE INDEX by_word ON words (word);"
    "SELECT count(*), sum(weight) FROM words WHERE word BETWEEN '3' AND '9';"
    "UPDATE words SET word = word || '-' || number WHERE number % 3 = 0;"
    "DELETE FROM words WHERE number % 5 = 0;"
    "SELECT substr(word, 1, 2), count(*), group_concat(number) FROM words GROUP BY 1 ORDER BY 2 DESC, 1;";

static int take(void *unused, int count, char **values, char **names) {
    int i;
    (void)unused, (void)names;
    for (i = 0; i < count; i++) {
        result(values[i], strlen(values[i]));
    }
    return 0;
}

static void job(void *context) {
    static sqlite3_mem_methods own;
    sqlite3 *database = NULL;
    if (own.xMalloc == NULL) {
        CHECK(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &own) == SQLITE_OK);
    }
    CHECK(bytepool_set_default(context) == BYTEPOOL_OK);
    CHECK((context == NULL ? sqlite3_config(SQLITE_CONFIG_MALLOC, &own) : bytepool_sqlite_use_default()) == SQLITE_OK);
    CHECK(sqlite3_initialize() == SQLITE_OK);
    CHECK(sqlite3_open(":memory:", &database) == SQLITE_OK);
    CHECK(sqlite3_exec(database, script, take, NULL, NULL) == SQLITE_OK);
    sample();
    CHECK(sqlite3_close(database) == SQLITE_OK);
    CHECK(sqlite3_shutdown() == SQLITE_OK);
}
