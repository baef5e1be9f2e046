"""An ordinary client: client.py WAY METHOD URL. It knows of no proxy, and prints the body of the answer."""

import sys
import urllib.parse

WAY, METHOD, URL = sys.argv[1:]
BODY = b"hello" if METHOD == "POST" else None


def by_urllib():
    import ssl
    import urllib.request

    context = ssl.create_default_context()
    # As Python 3.13 does by itself.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with urllib.request.urlopen(urllib.request.Request(URL, BODY), timeout=20, context=context) as answer:
        return answer.read()


def by_tunnel():
    """As libraries do that make a tunnel for everything."""
    import http.client
    import os
    import urllib.request

    proxy = urllib.parse.urlsplit(os.environ["http_proxy"])
    url = URL
    while True:
        to = urllib.parse.urlsplit(url)
        if urllib.request.proxy_bypass(to.netloc):
            connection = http.client.HTTPConnection(to.hostname, to.port, timeout=20)
        else:
            connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=20)
            connection.set_tunnel(to.hostname, to.port)
        connection.request(METHOD, to.path, BODY)
        answer = connection.getresponse()
        if answer.status != 302:
            return answer.read()
        url = urllib.parse.urljoin(url, answer.headers["location"])


def by_requests():
    import requests

    answer = requests.request(METHOD, URL, data=BODY, timeout=20)
    answer.raise_for_status()
    return answer.content


def by_boto3():
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(signature_version=UNSIGNED, retries={"max_attempts": 0}, read_timeout=20)
    client = boto3.client("lambda", region_name="eu-central-1", endpoint_url=URL, config=config)
    return client.invoke(FunctionName="echo", Payload=BODY)["Payload"].read()


WAYS = {"urllib": by_urllib, "tunnel": by_tunnel, "requests": by_requests, "boto3": by_boto3}
print(WAYS[WAY]().decode())
