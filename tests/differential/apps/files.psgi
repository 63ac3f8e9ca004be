# Plack::App::File before a tree, ROOT in the environment, for Starman.
use Plack::App::File;
my $files = Plack::App::File->new(root => $ENV{ROOT}, content_type => 'text/plain')->to_app;
sub {
    my $env = shift;
    return $files->($env) unless $env->{PATH_INFO} =~ m{\A/(public|private)/echo\z};
    my @fields = map { (my $name = substr $_, 5) =~ tr/_/-/; "$name: $env->{$_}\n" } grep { /^HTTP_/ } keys %$env;
    return [200, ['Content-Type' => 'text/plain'], \@fields];
};
