# The commands that answer, in a container, on the folder that is mounted at /data. Not those that
# train: TensorFlow is not in it. Not the web page: it answers only on the machine that it runs on.
FROM python:3.11-slim
RUN --mount=type=bind,target=/src pip install --no-cache-dir "/src[heic]"
# The user may be any (docker run --user), also one without a home.
ENV HOME=/tmp
USER 1000
WORKDIR /data
ENTRYPOINT ["crackclf"]
