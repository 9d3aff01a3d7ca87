// An OpenAI-compatible model server that costs next to nothing: one thread, epoll, fixed answers.
//
// usage: mock_upstream PORT
//
// POST anything        a chat completion of about 500 bytes; with "stream":true in the body 100 events of about 190
//                      bytes, each written by itself: at once, or one every 10 ms when the body holds "pace10"
// GET /v1/models       one model, glm-4
// GET /stats           "REQUESTS CHUNKS": how many completions and events were sent so far
// GET anything else    {"status":"ok"}, with what routers ask about a worker when the path holds "info"
//
// It trusts its clients: requests are at most 64 KiB, and one is answered before the next is read.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 4096, MAX_REQUEST_BYTES = 65536, MAX_EVENTS = 256, CHUNKS = 100, PACE_US = 10000 };

#define COMPLETION_HEAD "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion"
#define FOX "The quick brown fox jumps over the lazy dog. "
#define COMPLETION                                                                                       \
  COMPLETION_HEAD "\",\"created\":1760000000,\"model\":\"glm-4\",\"choices\":[{\"index\":0,\"message\":" \
  "{\"role\":\"assistant\",\"content\":\"" FOX FOX FOX "\"},\"logprobs\":null,"                          \
  "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":41,"               \
  "\"total_tokens\":65},\"system_fingerprint\":\"fp_mock0001\"}"
#define EVENT(delta, reason)                                                                             \
  "data: " COMPLETION_HEAD ".chunk\",\"created\":1760000000,\"model\":\"glm-4\",\"choices\":"            \
  "[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" reason "}]}\n\n"
#define MODELS                                                                                           \
  "{\"object\":\"list\",\"data\":[{\"id\":\"glm-4\",\"object\":\"model\",\"created\":1760000000,"        \
  "\"owned_by\":\"mock\",\"root\":\"glm-4\",\"max_model_len\":32768}]}"
#define WORKER_INFO                                                                                      \
  "{\"model_path\":\"glm-4\",\"served_model_name\":\"glm-4\",\"tokenizer_path\":\"glm-4\","              \
  "\"is_generation\":true,\"model_id\":\"glm-4\",\"tp_size\":1,\"dp_size\":1}"

typedef struct {
  char text[2048];
  int length;
} Bytes;

typedef struct {
  char *request;  // what was read and is not answered yet
  int length;
  int chunks_left;  // of a paced stream
  int is_streaming;
  long long due_us;  // when its next event goes out
} Connection;

static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
static Bytes completion, models, worker_info, status_ok, chunk, stream_end;
static Connection connections[MAX_CONNECTIONS];
static int paced[MAX_CONNECTIONS], paced_count;  // the connections with a paced stream
static long long requests_sent, chunks_sent;

static long long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void set_answer(Bytes *answer, const char *content_type, const char *body) {
  answer->length = snprintf(answer->text, sizeof answer->text,
                            "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", content_type,
                            strlen(body), body);
}

static void append_chunk(Bytes *bytes, const char *body) {
  bytes->length += snprintf(bytes->text + bytes->length, sizeof bytes->text - bytes->length, "%zx\r\n%s\r\n",
                            strlen(body), body);
}

static void make_answers(void) {
  set_answer(&completion, "application/json", COMPLETION);
  set_answer(&models, "application/json", MODELS);
  set_answer(&worker_info, "application/json", WORKER_INFO);
  set_answer(&status_ok, "application/json", "{\"status\":\"ok\"}");
  append_chunk(&chunk, EVENT("{\"content\":\" token\"}", "null"));
  append_chunk(&stream_end, EVENT("{}", "\"stop\""));
  append_chunk(&stream_end, "data: [DONE]\n\n");
  append_chunk(&stream_end, "");  // the last chunk of RFC 9112, section 7.1, has no bytes
}

// 0, or -1 when the connection is gone. Waits while the client is slow.
static int send_all(int fd, const char *text, int length) {
  while (length > 0) {
    int sent = send(fd, text, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      struct pollfd writable = {.fd = fd, .events = POLLOUT};
      poll(&writable, 1, -1);
      continue;
    }
    if (sent < 0) return -1;
    text += sent;
    length -= sent;
  }
  return 0;
}

static int send_bytes(int fd, const Bytes *bytes) { return send_all(fd, bytes->text, bytes->length); }

static int send_chunk(int fd) {
  chunks_sent++;
  return send_bytes(fd, &chunk);
}

static void forget_paced(int fd) {
  for (int i = 0; i < paced_count; i++) {
    if (paced[i] == fd) paced[i--] = paced[--paced_count];
  }
}

static void close_connection(int fd) {
  forget_paced(fd);
  close(fd);
  free(connections[fd].request);
  connections[fd] = (Connection){0};
}

static int send_stats(int fd) {
  Bytes answer;
  char body[64];
  snprintf(body, sizeof body, "%lld %lld\n", requests_sent, chunks_sent);
  set_answer(&answer, "text/plain", body);
  return send_bytes(fd, &answer);
}

static int answer_get(int fd, const char *target) {
  if (!strncmp(target, "/stats", 6)) return send_stats(fd);
  if (!strncmp(target, "/v1/models", 10)) return send_bytes(fd, &models);
  const char *info = strstr(target, "info");
  return send_bytes(fd, info && info < strchr(target, '\r') ? &worker_info : &status_ok);
}

static int answer_post(int fd, const char *body) {
  requests_sent++;
  const char *stream = strstr(body, "\"stream\"");
  if (!stream || strncmp(stream + 8 + strspn(stream + 8, " :"), "true", 4)) return send_bytes(fd, &completion);
  if (send_all(fd, STREAM_HEAD, sizeof STREAM_HEAD - 1)) return -1;
  if (strstr(body, "pace10")) {
    connections[fd].is_streaming = 1;
    connections[fd].chunks_left = CHUNKS;
    connections[fd].due_us = now_us() + PACE_US;
    paced[paced_count++] = fd;
    return 0;
  }
  for (int i = 0; i < CHUNKS; i++) {
    if (send_chunk(fd)) return -1;
  }
  return send_bytes(fd, &stream_end);
}

// The length of the whole request at the start of `text`, 0 when it is not complete. *body is set to its body.
static int request_length(char *text, int length, char **body) {
  char *end = strstr(text, "\r\n\r\n");
  if (!end) return 0;
  *body = end + 4;
  int body_length = 0;
  for (char *line = text; line < end; line = strstr(line, "\r\n") + 2) {
    if (!strncasecmp(line, "content-length:", 15)) body_length = atoi(line + 15);
    if (!strncasecmp(line, "transfer-encoding:", 18)) {  // taken for chunked
      char *last = strstr(*body, "0\r\n\r\n");
      return last ? last + 5 - text : 0;
    }
  }
  int whole = *body - text + body_length;
  return whole <= length ? whole : 0;
}

static int answer_requests(int fd) {
  Connection *connection = &connections[fd];
  while (!connection->is_streaming) {
    char *text = connection->request, *body;
    text[connection->length] = 0;
    int length = request_length(text, connection->length, &body);
    if (!length) return 0;
    char following = text[length];
    text[length] = 0;
    int failed = strncmp(text, "POST", 4) ? answer_get(fd, text + strcspn(text, " ") + 1) : answer_post(fd, body);
    text[length] = following;
    if (failed) return -1;
    connection->length -= length;
    memmove(text, text + length, connection->length);
  }
  return 0;
}

// NULL when no stream is paced: then there is nothing to wake up for.
static struct timespec *time_to_next_chunk(struct timespec *timeout) {
  if (!paced_count) return NULL;
  long long due_us = connections[paced[0]].due_us;
  for (int i = 1; i < paced_count; i++) {
    if (connections[paced[i]].due_us < due_us) due_us = connections[paced[i]].due_us;
  }
  long long left_us = due_us - now_us();
  if (left_us < 0) left_us = 0;
  *timeout = (struct timespec){.tv_sec = left_us / 1000000, .tv_nsec = left_us % 1000000 * 1000};
  return timeout;
}

static void send_due_chunks(void) {
  long long now = now_us();
  for (int i = paced_count - 1; i >= 0; i--) {  // backwards: the last takes the place of one that leaves
    int fd = paced[i], failed;
    Connection *connection = &connections[fd];
    if (connection->due_us > now) continue;
    if (connection->chunks_left-- > 0) {
      connection->due_us += PACE_US;
      failed = send_chunk(fd);
    } else {
      connection->is_streaming = 0;
      paced[i] = paced[--paced_count];
      failed = send_bytes(fd, &stream_end) || answer_requests(fd);
    }
    if (failed) close_connection(fd);
  }
}

static void accept_connections(int listener, int epoll) {
  int fd, yes = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MAX_CONNECTIONS) {
      close(fd);
      continue;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connections[fd] = (Connection){.request = malloc(MAX_REQUEST_BYTES + 1)};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

static void read_requests(int fd) {
  Connection *connection = &connections[fd];
  int length = recv(fd, connection->request + connection->length, MAX_REQUEST_BYTES - connection->length, 0);
  if (length < 0 && errno == EAGAIN) return;
  if (length > 0) connection->length += length;
  if (length <= 0 || answer_requests(fd)) close_connection(fd);
}

static int listen_on(int port) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = inet_addr("127.0.0.1");
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
    perror("mock_upstream");
    exit(1);
  }
  return listener;
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: mock_upstream PORT\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  make_answers();
  int listener = listen_on(atoi(arguments[1])), epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[MAX_EVENTS];
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    struct timespec timeout;
    int ready = epoll_pwait2(epoll, events, MAX_EVENTS, time_to_next_chunk(&timeout), NULL);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.fd == listener)
        accept_connections(listener, epoll);
      else
        read_requests(events[i].data.fd);
    }
    send_due_chunks();
  }
}
