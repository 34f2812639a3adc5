# The proxy without torch. Build: docker build -t ctxpress .
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ctxpress ctxpress
COPY proxy proxy
RUN python -m venv /opt/ctxpress \
    && /opt/ctxpress/bin/pip install --no-cache-dir -c constraints.txt '.[proxy,redis]'

FROM python:3.11-slim
COPY --from=build /opt/ctxpress /opt/ctxpress
RUN useradd --system --uid 10001 --create-home ctxpress \
    && install -d -o ctxpress -g ctxpress /var/lib/ctxpress
USER ctxpress
ENV PATH=/opt/ctxpress/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/var/lib/ctxpress
VOLUME /var/lib/ctxpress
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8787/livez', timeout=2)"]
ENTRYPOINT ["ctxpress"]
CMD ["serve", "--config", "/etc/ctxpress/ctxpress.yaml", "--host", "0.0.0.0"]
