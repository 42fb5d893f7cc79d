/*
 * The work of a lab guest, done on the host's order and told honestly.
 *
 * Three processes. The teller (the parent) speaks lines over the virtio-serial port, counts the work that is
 * asked for by the clock, and is locked into memory, so it answers while the guest swaps. The holder keeps
 * anonymous memory and touches it; the reader reads a disk through the guest's page cache. Either may stall or
 * be killed for want of memory: then `served` falls behind `asked`, which is the point of it all. The teller
 * starts a killed one again after a second, as an init system would a service.
 *
 * Orders, one a line, each preceded by a number that the answer repeats; memory in MiB, rates in MiB/s:
 *   N anon SIZE [RATE]           own content, one cache line written in each page; touching writes
 *   N random SIZE [RATE]         own content, every byte written; touching writes
 *   N equal SIZE [RATE]          the same in every guest, no two pages alike; touching reads
 *   N mostly SIZE [RATE]         four pages of five the same in every guest, the fifth its own; touching reads
 *   N pattern SIZE HEX [RATE]    the given bytes over and over; touching reads
 *   N touch COUNT                pages touched a second, all over what is to be held
 *   N cache SIZE [RATE]          read the first SIZE of the disk round and round
 *   N free                       give back all anonymous memory, stop reading
 *   N drop                       drop the guest's page cache
 *   N report                     what was asked, what was done, what the guest's kernel says
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull
#define MIB (1024 * 1024ull)
#define CHUNK (64 * 1024ull)            /* one read: what a kernel would read ahead for a small file */
#define REGION (64 * 1024 * MIB)        /* address space only; far above any lab guest's memory */
#define SLICE 256                       /* pages or touches between two looks at the clock: 1 MiB */
#define NAP_US 100000                   /* ten wake-ups a second: six guests share two emulated processors */
#define PATIENCE_NS 1000000000ll        /* work not done a second after it was due is lost, not late */
#define PORT_NAME "org.balloond.lab"

enum content { ANON, RANDOM, EQUAL, MOSTLY, PATTERN };

static struct board {                   /* shared by the three */
    _Atomic uint64_t order;             /* odd while the teller is writing an order */
    enum content content;
    uint64_t wanted, from, rate;        /* pages, pages, pages a second (0: at once) */
    int64_t since_ns;
    uint8_t pattern[64];
    size_t pattern_length;
    _Atomic uint64_t touches, cache_chunks, chunk_rate;     /* a second; chunks; a second */
    _Atomic uint64_t asked, taken, served;              /* touches: due so far, tried or given up, done */
    _Atomic uint64_t reads_asked, reads_taken, reads_served;
    _Atomic uint64_t held;
    _Atomic int64_t growth_ns;          /* the last growth from order to last page; -1: still growing */
} *board;

static uint64_t seed;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static uint64_t scramble(uint64_t x) {  /* splitmix64: cheap, and no two inputs alike */
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* How much of the work asked for is past: tried, or due for longer than anybody would wait. */
static uint64_t decided(uint64_t asked, uint64_t taken, uint64_t a_second) {
    uint64_t patience = a_second * (PATIENCE_NS / 1000000000ll);
    return asked > patience && asked - patience > taken ? asked - patience : taken;
}

/* --- the holder ---------------------------------------------------------------------------------------- */

static void fill(uint64_t *page, uint64_t number) {
    size_t words = board->content == ANON ? 8 : PAGE / 8;
    if (board->content == PATTERN) {
        for (size_t i = 0; i < PAGE; i++)
            ((uint8_t *)page)[i] = board->pattern[i % board->pattern_length];
        return;
    }
    int shared = board->content == EQUAL || (board->content == MOSTLY && number % 5);
    uint64_t x = scramble(number) ^ (shared ? 0 : seed);
    for (size_t i = 0; i < words; i++)
        page[i] = (x = x * 6364136223846793005ull + 1442695040888963407ull) | 1;
}

/* The pages that ought to be held at a time, by the order's rate. */
static uint64_t scheduled(int64_t at_ns) {
    uint64_t wanted = board->wanted, from = board->from;
    if (!board->rate)
        return at_ns >= board->since_ns ? wanted : (from < wanted ? from : wanted);
    int64_t elapsed = at_ns > board->since_ns ? at_ns - board->since_ns : 0;
    uint64_t moved = (double)elapsed / 1e9 * (double)board->rate;
    if (wanted >= from)
        return moved < wanted - from ? from + moved : wanted;
    return moved < from - wanted ? from - moved : wanted;
}

static void touch(uint8_t *region, uint64_t *dice) {
    uint64_t now = scheduled(now_ns()), due = scheduled(now_ns() - PATIENCE_NS);
    if (due > now)
        due = now;                      /* what is being given up is not missed */
    if (due) {
        *dice = scramble(*dice);
        uint64_t number = *dice % due;
        if (number >= board->held)
            return;                     /* due for a second and still not there: lost */
        volatile uint64_t *page = (uint64_t *)(region + number * PAGE);
        if (board->content == ANON || board->content == RANDOM)
            page[1]++;
        else
            (void)page[1];
    }
    board->served++;
}

static void hold(void) {
    uint8_t *region = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED)
        _exit(1);
    madvise(region, REGION, MADV_NOHUGEPAGE);   /* so that what is held is exact */
    uint64_t order = 0, dice = seed, resident = 0;
    enum content content = ANON;
    for (;;) {
        uint64_t latest = board->order;
        if (latest & 1) {
            usleep(1000);
            continue;
        }
        if (latest != order && board->content != content) {
            content = board->content;
            board->held = 0;            /* same pages, to be written anew */
        }
        order = latest;
        uint64_t goal = scheduled(now_ns()), held = board->held;
        for (int i = 0; i < SLICE && held < goal; i++, board->held = held) {
            fill((uint64_t *)(region + held * PAGE), held);
            held++;
        }
        resident = held > resident ? held : resident;
        if (resident > goal) {
            madvise(region + goal * PAGE, (resident - goal) * PAGE, MADV_DONTNEED);
            resident = goal;
            board->held = held < goal ? held : goal;
        }
        if (board->growth_ns < 0 && board->held >= board->wanted)
            board->growth_ns = now_ns() - board->since_ns;
        uint64_t asked = board->asked;
        board->taken = decided(asked, board->taken, board->touches);
        for (int i = 0; i < SLICE && board->taken < asked; i++, board->taken++)
            touch(region, &dice);
        if (board->taken >= asked && board->held >= goal)
            usleep(NAP_US);
    }
}

/* --- the reader ---------------------------------------------------------------------------------------- */

static int disk = -1;                   /* held open by the teller: its last close would drop the cache */

static void read_round(void) {
    static uint8_t buffer[CHUNK];
    uint64_t position = 0;
    for (;;) {
        uint64_t asked = board->reads_asked, chunks = board->cache_chunks;
        board->reads_taken = decided(asked, board->reads_taken, board->chunk_rate);
        for (int i = 0; i < SLICE && chunks && board->reads_taken < asked; i++, board->reads_taken++)
            if (pread(disk, buffer, CHUNK, (off_t)(position++ % chunks * CHUNK)) == (ssize_t)CHUNK)
                board->reads_served++;
        if (!chunks || board->reads_taken >= asked)
            usleep(NAP_US);
    }
}

/* --- the teller ---------------------------------------------------------------------------------------- */

static struct { void (*task)(void); pid_t pid; int64_t start_ns; } workers[] = {{hold, 0, 0}, {read_round, 0, 0}};
static unsigned restarts;

static void write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "lab: cannot write %s\n", path);
    if (fd >= 0)
        close(fd);
}

static void keep_workers(void) {
    int64_t now = now_ns();
    for (unsigned i = 0; i < sizeof workers / sizeof *workers; i++) {
        if (workers[i].pid && waitpid(workers[i].pid, NULL, WNOHANG) == workers[i].pid) {
            workers[i].pid = 0;
            workers[i].start_ns = now + 1000000000ll;
            restarts++;
            if (i == 0)
                board->held = 0;
        }
        if (workers[i].pid || now < workers[i].start_ns)
            continue;
        workers[i].pid = fork();
        if (workers[i].pid == 0) {
            write_text("/proc/self/oom_score_adj", "500");      /* the work dies, never the telling */
            workers[i].task();
        }
    }
}

/* Counts by the clock what ought to be done meanwhile, whoever is stalled. */
static void ask(void) {
    static int64_t last_ns;
    static double touches, reads;
    int64_t now = now_ns();
    double elapsed = last_ns ? (double)(now - last_ns) / 1e9 : 0;
    last_ns = now;
    touches += elapsed * (double)board->touches;
    reads += board->cache_chunks ? elapsed * (double)board->chunk_rate : 0;
    uint64_t whole = touches, whole_reads = reads;
    touches -= (double)whole;
    reads -= (double)whole_reads;
    board->asked += whole;
    board->reads_asked += whole_reads;
}

static void order(enum content content, uint64_t mib, uint64_t rate, const char *hex) {
    board->order++;
    board->from = board->content == content ? board->held : 0;
    board->content = content;
    board->wanted = mib * MIB / PAGE;
    board->rate = rate * MIB / PAGE;
    board->since_ns = now_ns();
    board->growth_ns = board->wanted > board->from ? -1 : 0;
    for (board->pattern_length = 0; hex && hex[0] && hex[1] && board->pattern_length < 64; hex += 2) {
        char byte[3] = {hex[0], hex[1], 0};
        board->pattern[board->pattern_length++] = (uint8_t)strtoul(byte, NULL, 16);
    }
    if (!board->pattern_length)
        board->pattern[board->pattern_length++] = 0xa5;
    board->order++;
}

/* Appends the wanted lines of a /proc file as a JSON object. */
static size_t quote(char *out, size_t room, const char *label, const char *path, const char *const *keys) {
    static char text[65536];
    int fd = open(path, O_RDONLY);
    ssize_t length, total = 0;
    while (fd >= 0 && (length = read(fd, text + total, sizeof text - 1 - total)) > 0)
        total += length;
    close(fd);
    text[total] = 0;
    size_t at = snprintf(out, room, ",\"%s\":{", label);
    const char *comma = "";
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char key[64];
        unsigned long long value;
        if (sscanf(line, "%63[^: ]%*[: ]%llu", key, &value) != 2)
            continue;
        for (const char *const *k = keys; *k; k++)
            if (!strcmp(*k, key)) {
                at += snprintf(out + at, room - at, "%s\"%s\":%llu", comma, key, value);
                comma = ",";
            }
    }
    return at + snprintf(out + at, room - at, "}");
}

static size_t report(char *out, size_t room) {
    static const char *const meminfo[] = {"MemTotal", "MemFree", "MemAvailable", "Cached", "Buffers", "SwapTotal", "SwapFree", NULL};
    static const char *const vmstat[] = {"pswpin", "pswpout", "pgmajfault", "oom_kill", "balloon_inflate", "balloon_deflate", NULL};
    int64_t growth = board->growth_ns;
    size_t at = snprintf(out, room,
        ",\"uptime_s\":%.2f,\"wanted\":%llu,\"held\":%llu,\"asked\":%llu,\"served\":%llu,\"reads_asked\":%llu,"
        "\"reads_served\":%llu,\"restarts\":%u,\"growth_s\":",
        (double)now_ns() / 1e9, (unsigned long long)(board->wanted * PAGE), (unsigned long long)(board->held * PAGE),
        (unsigned long long)decided(board->asked, board->taken, board->touches), (unsigned long long)board->served,
        (unsigned long long)decided(board->reads_asked, board->reads_taken, board->chunk_rate),
        (unsigned long long)board->reads_served, restarts);
    at += growth < 0 ? snprintf(out + at, room - at, "null") : snprintf(out + at, room - at, "%.3f", (double)growth / 1e9);
    at += quote(out + at, room - at, "meminfo", "/proc/meminfo", meminfo);
    return at + quote(out + at, room - at, "vmstat", "/proc/vmstat", vmstat);
}

static void answer(int port, char *line) {
    static char out[8192];
    char verb[16] = "", first[16] = "", second[160] = "", third[16] = "";
    unsigned long long number = 0;
    if (sscanf(line, "%llu %15s %15s %159s %15s", &number, verb, first, second, third) < 2)
        return;
    uint64_t size = strtoull(first, NULL, 10), rate = strtoull(second, NULL, 10);
    const char *error = "";
    size_t at = snprintf(out, sizeof out, "{\"n\":%llu", number);
    if (!strcmp(verb, "anon")) order(ANON, size, rate, NULL);
    else if (!strcmp(verb, "random")) order(RANDOM, size, rate, NULL);
    else if (!strcmp(verb, "equal")) order(EQUAL, size, rate, NULL);
    else if (!strcmp(verb, "mostly")) order(MOSTLY, size, rate, NULL);
    else if (!strcmp(verb, "pattern")) order(PATTERN, size, strtoull(third, NULL, 10), second);
    else if (!strcmp(verb, "touch")) board->touches = size;
    else if (!strcmp(verb, "cache")) {
        board->chunk_rate = (rate ? rate : 20) * (MIB / CHUNK);
        board->cache_chunks = disk < 0 ? 0 : size * (MIB / CHUNK);
        error = disk < 0 ? "this guest has no disk" : "";
    }
    else if (!strcmp(verb, "free")) { order(board->content, 0, 0, NULL); board->cache_chunks = 0; }
    else if (!strcmp(verb, "drop")) write_text("/proc/sys/vm/drop_caches", "1");
    else if (strcmp(verb, "report")) error = "no such order";
    if (*error)
        at += snprintf(out + at, sizeof out - at, ",\"error\":\"%s\"", error);
    at += report(out + at, sizeof out - at);
    at += snprintf(out + at, sizeof out - at, "}\n");
    for (size_t sent = 0; sent < at;) {
        ssize_t done = write(port, out + sent, at - sent);
        if (done < 0)
            return;                     /* nobody listens */
        sent += done;
    }
}

static int open_port(void) {
    struct dirent *entry;
    DIR *ports = opendir("/sys/class/virtio-ports");
    while (ports && (entry = readdir(ports))) {
        char path[300], name[64] = "";
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        int found = fscanf(file, "%63s", name) == 1 && !strcmp(name, PORT_NAME);
        fclose(file);
        if (found) {
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            closedir(ports);
            return open(path, O_RDWR);
        }
    }
    if (ports)
        closedir(ports);
    return -1;
}

int main(void) {
    int port, random = open("/dev/urandom", O_RDONLY);
    if (random < 0 || read(random, &seed, sizeof seed) != sizeof seed)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    while ((port = open_port()) < 0)
        usleep(NAP_US);
    disk = open("/dev/vda", O_RDONLY);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 3;
    board->touches = 2000;              /* a percent or so of an emulated processor */
    order(ANON, 0, 0, NULL);
    mlockall(MCL_CURRENT);
    write_text("/proc/self/oom_score_adj", "-1000");
    static char line[512];
    size_t length = 0;
    for (;;) {
        struct pollfd wait = {.fd = port, .events = POLLIN};
        int ready = poll(&wait, 1, NAP_US / 1000);
        ask();
        keep_workers();
        if (ready > 0 && (wait.revents & POLLHUP) && !(wait.revents & POLLIN))
            usleep(NAP_US);             /* nobody is connected on the host */
        char byte;
        while (ready > 0 && (wait.revents & POLLIN) && read(port, &byte, 1) == 1) {
            if (byte == '\n') {
                line[length] = 0;
                length = 0;
                answer(port, line);
                break;
            }
            if (length < sizeof line - 1)
                line[length++] = byte;
        }
    }
}
